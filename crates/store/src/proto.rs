//! The generated protocol between members, and how its messages become Raft's.

#![expect(missing_docs, clippy::all, reason = "generated from proto/store.proto, which is commented")]
#![expect(unreachable_pub, reason = "generated")]

tonic::include_proto!("carob.store.v1");
