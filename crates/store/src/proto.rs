//! The generated protocol between members, and how its messages become Raft's.

#![expect(unreachable_pub, reason = "generated from proto/store.proto")]

tonic::include_proto!("carob.store.v1");
