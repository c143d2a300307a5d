//! Raft's calls to other members.

use std::collections::HashMap;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use hyper_util::rt::TokioIo;
use openraft::OptionalSend;
use openraft::RaftNetworkFactory;
use openraft::RaftNetworkV2;
use openraft::errors::NetworkError;
use openraft::errors::RPCError;
use openraft::errors::ReplicationClosed;
use openraft::errors::StreamingError;
use openraft::errors::Unreachable;
use openraft::network::RPCOption;
use openraft::network::stream_append_sequential;
use openraft::raft::AppendEntriesRequest;
use openraft::raft::AppendEntriesResponse;
use openraft::raft::SnapshotResponse;
use openraft::raft::StreamAppendError;
use openraft::raft::StreamAppendResult;
use openraft::raft::TransferLeaderRequest;
use openraft::raft::TransferLeaderResponse;
use openraft::raft::VoteRequest;
use openraft::raft::VoteResponse;
use openraft::storage::Snapshot;
use parking_lot::Mutex;
use tokio::sync::watch;
use tonic::Code;
use tonic::Status;
use tonic::transport::Channel;
use tonic::transport::Endpoint;
use tonic::transport::Uri;

use crate::State;
use crate::proto;
use crate::proto::append_response::Result as Appended;
use crate::proto::forward_client::ForwardClient;
use crate::proto::raft_client::RaftClient;
use crate::tls::Identity;
use crate::transfer;
use crate::types::CommittedLeaderId;
use crate::types::Peer;
use crate::types::TypeConfig;
use crate::types::Vote;
use crate::wire;
use crate::wire::MAX_MESSAGE_BYTES;

type Rpc<T> = Result<T, RPCError<TypeConfig>>;

/// Connections are kept apart so that a heartbeat never waits behind a megabyte of something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Lane {
    /// Heartbeats and votes.
    Control,
    /// Log entries and forwarded commands.
    Data,
    /// Snapshots.
    Bulk,
}

/// How long a connection may be silent before it is tested, and how long the test may take.
const KEEP_ALIVE: Duration = Duration::from_secs(2);
/// How long the start of a stream may take: more than one stall of a busy machine, less than an election.
const STREAM_START: Duration = Duration::from_secs(1);

/// The connections to all members, made when first needed.
#[derive(Clone)]
pub(crate) struct Peers {
    identity: Identity,
    channels: Arc<Mutex<HashMap<(SocketAddr, Lane), Channel>>>,
    /// The member that was asked to lead and does not, once that is known: openraft keeps its answer to itself.
    pub(crate) refused: watch::Sender<Option<u64>>,
}

impl Peers {
    pub(crate) fn new(identity: Identity) -> Self {
        Self {
            identity,
            channels: Arc::default(),
            refused: watch::Sender::default(),
        }
    }

    pub(crate) fn forward(&self, address: SocketAddr, lane: Lane) -> ForwardClient<Channel> {
        ForwardClient::new(self.channel(address, lane))
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES)
    }

    fn raft(&self, address: SocketAddr, lane: Lane) -> RaftClient<Channel> {
        RaftClient::new(self.channel(address, lane))
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES)
    }

    fn channel(&self, address: SocketAddr, lane: Lane) -> Channel {
        let mut channels = self.channels.lock();
        channels
            .entry((address, lane))
            .or_insert_with(|| self.connect(address))
            .clone()
    }

    fn connect(&self, address: SocketAddr) -> Channel {
        let identity = self.identity.clone();
        let connector = tower::service_fn(move |_: Uri| {
            let identity = identity.clone();
            async move { identity.connect(address).await.map(TokioIo::new) }
        });
        // TLS is the connector's own: tonic must not see a scheme that makes it add another.
        Endpoint::from(plain(address))
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(4 << 20)
            .initial_connection_window_size(8 << 20)
            .connect_with_connector_lazy(connector)
    }
}

fn plain(address: SocketAddr) -> Uri {
    let uri = Uri::builder()
        .scheme("http")
        .authority(address.to_string())
        .path_and_query("/")
        .build();
    // A socket address is always an authority.
    uri.unwrap_or_default()
}

/// Makes a [`Network`] for each member and purpose.
pub(crate) struct Networks {
    peers: Peers,
}

impl Networks {
    pub(crate) fn new(peers: Peers) -> Self {
        Self { peers }
    }

    fn network(&self, target: u64, peer: &Peer, lane: Lane) -> Network {
        Network {
            peers: self.peers.clone(),
            target,
            address: peer.address.parse().ok(),
            lane,
        }
    }
}

impl RaftNetworkFactory<TypeConfig> for Networks {
    type Network = Network;

    async fn new_client(&mut self, target: u64, peer: &Peer) -> Network {
        self.network(target, peer, Lane::Data)
    }

    async fn new_heartbeat_client(&mut self, target: u64, peer: &Peer) -> Network {
        self.network(target, peer, Lane::Control)
    }

    async fn new_snapshot_client(&mut self, target: u64, peer: &Peer) -> Network {
        self.network(target, peer, Lane::Bulk)
    }
}

/// The way to one member.
pub(crate) struct Network {
    peers: Peers,
    target: u64,
    address: Option<SocketAddr>,
    lane: Lane,
}

impl Network {
    fn client(&self, lane: Lane) -> Rpc<RaftClient<Channel>> {
        match self.address {
            Some(address) => Ok(self.peers.raft(address, lane)),
            None => Err(failure(&Status::unavailable(format!(
                "member {} has no usable address",
                self.target
            )))),
        }
    }

    async fn ask_for_vote(
        &self,
        request: &VoteRequest<TypeConfig>,
        option: &RPCOption,
        pre_vote: bool,
    ) -> Rpc<VoteResponse<TypeConfig>> {
        let request = wire::vote_request(request, pre_vote);
        let mut client = self.client(Lane::Control)?;
        let response = within(option.hard_ttl(), client.vote(request)).await?;
        wire::read_vote_response(response.into_inner()).map_err(|status| failure(&status))
    }

    async fn send_snapshot(
        &self,
        vote: Vote,
        snapshot: Snapshot<CommittedLeaderId, u64, Peer, Arc<State>>,
    ) -> Rpc<Vote> {
        let checkpoint = transfer::checkpoint(&snapshot.meta, &snapshot.snapshot);
        let mut client = self.client(Lane::Bulk)?;
        let response = client
            .snapshot(transfer::pieces(checkpoint, Some(vote)))
            .await;
        let response = response.map_err(|status| failure(&status))?;
        wire::read_vote(response.into_inner().vote).map_err(|status| failure(&status))
    }
}

impl RaftNetworkV2<TypeConfig> for Network {
    type SnapshotData = Arc<State>;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Rpc<AppendEntriesResponse<TypeConfig>> {
        let request = wire::append_request(request);
        let mut client = self.client(self.lane)?;
        let response = within(option.hard_ttl(), client.heartbeat(request))
            .await?
            .into_inner();
        Ok(
            match read_append_response(response).map_err(|status| failure(&status))? {
                Ok(log_id) => AppendEntriesResponse::PartialSuccess(log_id),
                Err(StreamAppendError::Conflict(_)) => AppendEntriesResponse::Conflict,
                Err(StreamAppendError::HigherVote(vote)) => AppendEntriesResponse::HigherVote(vote),
            },
        )
    }

    /// Entries go down one stream without waiting for the answers to those before; heartbeats go one by one.
    ///
    /// The stream begins when there is an entry for it: after failures openraft lets `input` wait, and with nobody there
    /// a call that did not look at it would be made again without any pause.
    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Rpc<BoxStream<'s, Rpc<StreamAppendResult<TypeConfig>>>>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        if self.lane == Lane::Control {
            return stream_append_sequential(self, input, option);
        }
        Box::pin(async move {
            let mut input = input.peekable();
            if Pin::new(&mut input).peek().await.is_none() {
                return Ok(futures::stream::empty().boxed());
            }
            let mut client = self.client(self.lane)?;
            let answers = within(STREAM_START, client.append(input.map(wire::append_request)))
                .await?
                .into_inner();
            let answers = answers.map(|answer| {
                answer
                    .and_then(read_append_response)
                    .map_err(|status| failure(&status))
            });
            Ok(answers.boxed())
        })
    }

    async fn vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Rpc<VoteResponse<TypeConfig>> {
        self.ask_for_vote(&request, &option, false).await
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Rpc<VoteResponse<TypeConfig>> {
        self.ask_for_vote(&request, &option, true).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot<CommittedLeaderId, u64, Peer, Arc<State>>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let send = tokio::time::timeout(option.hard_ttl(), self.send_snapshot(vote, snapshot));
        tokio::select! {
            closed = cancel => Err(closed.into()),
            sent = send => match sent {
                Ok(vote) => Ok(SnapshotResponse::new(vote?)),
                Err(_) => Err(failure(&Status::deadline_exceeded("the snapshot took too long")).into()),
            },
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Rpc<TransferLeaderResponse<TypeConfig>> {
        let expected = request.last_log_id().copied();
        let message = proto::TransferRequest {
            from: Some(wire::vote(*request.from_leader())),
            to: *request.to_node_id(),
            last: expected.map(wire::log_id),
        };
        let mut client = self.client(Lane::Control)?;
        let call = async {
            let answer = client.transfer_leader(message).await;
            let accepted = answer.map(|response| response.into_inner().accepted);
            if *request.to_node_id() == self.target && !matches!(accepted, Ok(true)) {
                self.peers.refused.send_replace(Some(self.target));
            }
            accepted
        };
        // Whoever has not answered by then may still take over.
        if within(option.hard_ttl(), call).await? {
            Ok(Ok(()))
        } else {
            Ok(Err(openraft::raft::TransferLeaderError::LogNotFlushed {
                expected,
                actual: None,
            }))
        }
    }
}

async fn within<T>(limit: Duration, call: impl Future<Output = Result<T, Status>>) -> Rpc<T> {
    let result = tokio::time::timeout(limit, call).await;
    let result = result.unwrap_or_else(|_| {
        Err(Status::deadline_exceeded(format!(
            "no answer within {limit:?}"
        )))
    });
    result.map_err(|status| failure(&status))
}

fn failure(status: &Status) -> RPCError<TypeConfig> {
    match status.code() {
        // Nobody is there: openraft waits a little before it tries again.
        Code::Unavailable => RPCError::Unreachable(Unreachable::new(status)),
        _ => RPCError::Network(NetworkError::new(status)),
    }
}

fn read_append_response(
    response: proto::AppendResponse,
) -> Result<StreamAppendResult<TypeConfig>, Status> {
    let log_id = response.log_id.map(wire::read_log_id);
    Ok(match response.result() {
        Appended::Stored => Ok(log_id),
        Appended::Conflict => {
            let at = log_id.ok_or_else(|| Status::invalid_argument("a conflict nowhere"))?;
            Err(StreamAppendError::Conflict(at))
        }
        Appended::HigherVote => Err(StreamAppendError::HigherVote(wire::read_vote(
            response.vote,
        )?)),
    })
}
