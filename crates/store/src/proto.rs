//! The generated protocol between members, and how its messages become Raft's.

#![expect(
    unreachable_pub,
    clippy::allow_attributes,
    reason = "generated from proto/store.proto"
)]

tonic::include_proto!("carob.store.v1");
