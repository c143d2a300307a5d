//! Sockets for WASI preview 1 modules, and descriptors that tell of their termination.
//!
//! Preview 1 cannot make sockets; it can accept connections at listeners that were opened before the program began, by
//! `sock_accept`. A module that imports it gets a listener at each of its container's TCP ports, from descriptor 3 on,
//! as by systemd's socket activation, and this module's functions in place of wasmtime-wasi's, which knows of no
//! sockets. So does one that imports `carob:pod/lifecycle`, without the listeners. All other modules get wasmtime-wasi's alone.

mod buffers;
mod call;
mod descriptors;
mod files;
mod guarded;
mod listing;
mod poll;
mod single;
mod socket;
mod termination;

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;

use network::{Listener, PodNet};
use wasmtime::{Caller, Linker, Module};
use wasmtime_wasi::p1::types::Error;
use wasmtime_wasi::p1::{WasiP1Ctx, wasi_snapshot_preview1 as stock};
use wiggle::GuestMemory;

use super::guest::Core;
use crate::{Served, StartError};
use call::{Call, told};
pub(super) use descriptors::Descriptors;
pub(super) use guarded::link as link_guarded;

/// Where preview 1 is imported from.
const PREVIEW_1: &str = "wasi_snapshot_preview1";

/// Connections that wait to be accepted at each listener: Linux' usual bound.
const BACKLOG: usize = 128;

type Result<T, E = Error> = std::result::Result<T, E>;

/// Whether a module accepts connections.
pub(super) fn accepts(module: &Module) -> bool {
    module
        .imports()
        .any(|import| import.module() == PREVIEW_1 && import.name() == "sock_accept")
}

/// Replaces those of preview 1's functions that know descriptors.
pub(super) fn link(linker: &mut Linker<Core>) -> wasmtime::Result<()> {
    macro_rules! link {
        ($($name:ident($($argument:ident),+);)+) => {$(
            linker.func_wrap_async(
                PREVIEW_1,
                stringify!($name),
                |mut caller: Caller<'_, Core>, ($($argument,)+): ($(link!(u32 $argument),)+)| {
                    Box::new(async move {
                        let mut call = Call::of(&mut caller)?;
                        told(call.$name($($argument),+).await)
                    })
                },
            )?;
        )+};
        (u32 $argument:ident) => { u32 };
    }
    link! {
        sock_accept(fd, flags, accepted);
        sock_recv(fd, buffers, count, flags, received, told_flags);
        sock_send(fd, buffers, count, flags, sent);
        sock_shutdown(fd, how);
        fd_read(fd, buffers, count, read);
        fd_write(fd, buffers, count, written);
        fd_close(fd);
        fd_renumber(from, to);
        fd_fdstat_get(fd, at);
        fd_fdstat_set_flags(fd, flags);
        fd_filestat_get(fd, at);
        fd_prestat_get(fd, at);
        poll_oneoff(subscriptions, events, count, found);
    }
    files::link(linker)
}

/// The ports that a guest listens at, and how its environment tells of them.
#[derive(Default)]
pub(super) struct Activation {
    ports: Vec<Served>,
}

impl Activation {
    /// Ports in their order; of the same ones the first.
    ///
    /// # Errors
    /// When a port cannot be one.
    pub(super) fn of(mut ports: Vec<Served>) -> std::result::Result<Self, StartError> {
        if ports.iter().any(|port| port.number == 0) {
            let why = "a module listens at no port 0".to_owned();
            return Err(StartError::Invalid(why));
        }
        let mut seen = BTreeSet::new();
        ports.retain(|port| seen.insert(port.number));
        Ok(Self { ports })
    }

    /// Adds systemd's `LISTEN_FDS` and, where a port has a name, `LISTEN_FDNAMES` to an environment that has none.
    /// There is no `LISTEN_PID`, because a guest has no process id.
    pub(super) fn tell(&self, env: &mut Vec<(String, String)>) {
        let mut tell = |name: &str, value: String| {
            if env.iter().all(|(other, _)| other != name) {
                env.push((name.to_owned(), value));
            }
        };
        if self.ports.is_empty() {
            return;
        }
        tell("LISTEN_FDS", self.ports.len().to_string());
        if self.ports.iter().any(|port| port.name.is_some()) {
            let name = |port: &Served| match &port.name {
                Some(name) if !name.contains(':') => name.clone(),
                _ => "unknown".to_owned(),
            };
            let names: Vec<String> = self.ports.iter().map(name).collect();
            tell("LISTEN_FDNAMES", names.join(":"));
        }
    }

    /// Listens at every port, on every address of the pod.
    ///
    /// # Errors
    /// When one is taken.
    pub(super) fn listen(&self, net: &PodNet) -> std::result::Result<Vec<Listener>, StartError> {
        let listen = |port: &Served| {
            let port = port.number;
            let at = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port);
            let failed = |source| StartError::Listen { port, source };
            let bound = net.bind_stream(at).map_err(failed)?;
            Ok(Listener::new(Arc::new(bound), BACKLOG))
        };
        self.ports.iter().map(listen).collect()
    }
}

/// The descriptors that a guest begins with.
///
/// # Errors
/// When wasmtime-wasi's cannot be counted.
pub(super) fn open(
    wasi: &mut WasiP1Ctx,
    listeners: Vec<Listener>,
) -> wasmtime::Result<Descriptors> {
    let mut preopened = 0;
    let mut prestat = [0; 64];
    let begin = prestat.as_ptr().align_offset(8);
    loop {
        let mut memory = GuestMemory::Unshared(&mut prestat[begin..]);
        let fd = (descriptors::STREAMS + preopened).cast_signed();
        if stock::fd_prestat_get(wasi, &mut memory, fd, 0)? != 0 {
            return Ok(Descriptors::new(listeners, preopened));
        }
        preopened += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(number: u16, name: Option<&str>) -> Served {
        Served {
            number,
            name: name.map(str::to_owned),
        }
    }

    fn told_of(ports: Vec<Served>, mut env: Vec<(String, String)>) -> Vec<String> {
        Activation::of(ports).unwrap().tell(&mut env);
        let pairs = env.into_iter();
        pairs.map(|(name, value)| name + "=" + &value).collect()
    }

    #[test]
    fn the_environment_tells_of_listeners() {
        assert!(told_of(Vec::new(), Vec::new()).is_empty());
        let unnamed = vec![port(80, None), port(80, Some("again")), port(81, None)];
        assert_eq!(told_of(unnamed, Vec::new()), ["LISTEN_FDS=2"]);
        let named = || vec![port(80, Some("http")), port(81, None)];
        assert_eq!(
            told_of(named(), Vec::new()),
            ["LISTEN_FDS=2", "LISTEN_FDNAMES=http:unknown"]
        );
        let own = vec![("LISTEN_FDS".to_owned(), "7".to_owned())];
        assert_eq!(
            told_of(named(), own),
            ["LISTEN_FDS=7", "LISTEN_FDNAMES=http:unknown"]
        );
    }

    #[test]
    fn port_0_is_none() {
        assert!(Activation::of(vec![port(0, None)]).is_err());
    }
}
