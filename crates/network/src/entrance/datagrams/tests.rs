use std::time::Duration;

use super::super::Ports;
use super::super::tests::{World, soon, world};
use super::clients::{GOES_ON, IDLE, IDLE_AT_FIRST, Key, answer};
use super::*;

/// A socket of the pod's behind the ports.
fn server(world: &World) -> Datagrams {
    Datagrams::new(Arc::new(
        world.server.bind_datagram(behind()).expect("a port"),
    ))
}

/// Where it is on its pod.
fn behind() -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 8080)
}

/// The Service's node port at a further address: a port of its own.
fn further(world: &World) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, 10), world.at.port())
}

async fn client() -> UdpSocket {
    let bound = UdpSocket::bind("127.0.0.1:0").await;
    bound.expect("a socket")
}

/// Serves all of the world's ports together, with room for so many clients.
async fn serve(world: &World, most: usize) -> Ports {
    let mut ports = Ports::with_room(world.entrance.clone(), 1, 1, most);
    let wanted = [world.at, further(world)].map(|at| (Protocol::Udp, at));
    assert!(ports.set(wanted).await.is_empty());
    ports
}

/// Sends a datagram to a port; the server says who it is from.
async fn ask(client: &UdpSocket, at: SocketAddrV4, server: &Datagrams, text: &str) -> SocketAddr {
    let sent = client.send_to(text.as_bytes(), at).await;
    sent.expect("sent");
    let asked = soon(server.receive()).await;
    assert_eq!(&asked.bytes[..], text.as_bytes());
    asked.from
}

#[tokio::test]
async fn who_is_silent_for_longest_goes_first_whichever_port_it_is_of() {
    let world = world().await;
    let (server, at) = (server(&world), [world.at, further(&world)]);
    let _ports = serve(&world, 2).await;
    let clients = [client().await, client().await, client().await];
    let first = ask(&clients[0], at[0], &server, "a").await;
    let second = ask(&clients[1], at[1], &server, "b").await;
    let known = ask(&clients[0], at[0], &server, "c").await;
    assert_eq!(known, first);
    ask(&clients[2], at[0], &server, "d").await;
    let known = ask(&clients[0], at[0], &server, "e").await;
    assert_eq!(known, first, "another was silent for longer");
    let anew = ask(&clients[1], at[1], &server, "f").await;
    assert_ne!(
        anew, second,
        "it was forgotten for a client of another port"
    );
}

#[tokio::test]
async fn nobody_is_forgotten_for_who_cannot_come_in() {
    let world = world().await;
    let server = server(&world);
    let _ports = serve(&world, 1).await;
    let (known, new) = (client().await, client().await);
    let first = ask(&known, world.at, &server, "known").await;
    let any = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0);
    let gateway = &world.entrance.gateway;
    let held: Vec<_> = std::iter::from_fn(|| gateway.bind_datagram(any).ok()).collect();
    assert!(held.len() > MOST_CLIENTS, "the bound is never reached");
    new.send_to(b"lost", world.at).await.expect("sent");
    let again = ask(&known, world.at, &server, "still known").await;
    assert_eq!(again, first);
    drop(held);
    let came = ask(&new, world.at, &server, "new").await;
    assert_ne!(came, first);
}

/// Clients that say something only where a test says so.
struct Scripted {
    world: World,
    clients: Clients,
    out: Arc<UdpSocket>,
}

impl Scripted {
    async fn new(most: usize) -> Self {
        Self {
            world: world().await,
            clients: Clients::new(most),
            out: Arc::new(client().await),
        }
    }

    fn to(&self) -> SocketAddrV4 {
        SocketAddrV4::new(self.world.server.address(), behind().port())
    }

    fn key(&self, number: u16) -> Key {
        let from = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 5_000 + number);
        (self.world.at, from)
    }

    fn comes(&self, key: Key) -> Arc<Datagrams> {
        let place = enter(&self.world.entrance).expect("a port");
        self.clients.insert(key, self.to(), place, &self.out)
    }

    fn is_answered(&self, key: Key, socket: &Arc<Datagrams>) {
        assert!(self.clients.heard(key, socket, self.to().into()));
    }

    fn speaks(&self, key: Key) {
        assert!(self.clients.said(key, self.to()).is_some(), "{key:?}");
    }

    fn known(&self) -> Vec<u16> {
        let is_known = |number: &u16| self.clients.backend(self.key(*number)).is_some();
        (0..9).filter(is_known).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn who_goes_on_after_an_answer_goes_last() {
    const A_MOMENT: Duration = Duration::from_millis(1);
    let all = Scripted::new(3).await;
    let come = |number| all.comes(all.key(number));
    let speak = |numbers: &[u16]| numbers.iter().for_each(|n| all.speaks(all.key(*n)));
    let [zero, one, _two] = [0, 1, 2].map(come);
    all.is_answered(all.key(0), &zero);
    all.is_answered(all.key(1), &one);
    tokio::time::advance(GOES_ON - A_MOMENT).await;
    speak(&[1]);
    tokio::time::advance(A_MOMENT).await;
    speak(&[0, 2]);
    // One has spoken too soon after its answer, and the next was never answered.
    for (number, due) in [(3, [0, 2, 3]), (4, [0, 3, 4]), (5, [0, 4, 5])] {
        let socket = come(number);
        all.is_answered(all.key(number), &socket);
        assert_eq!(all.known(), due);
    }
    tokio::time::advance(GOES_ON).await;
    speak(&[5, 4]);
    // All are established: the one that has been silent for longest makes room, and then whoever is not.
    for (number, due) in [(6, [4, 5, 6]), (7, [4, 5, 7])] {
        come(number);
        assert_eq!(all.known(), due);
    }
}

#[tokio::test(start_paused = true)]
async fn who_is_established_is_remembered_for_longer() {
    let all = Scripted::new(9).await;
    let key = all.key(0);
    for (answered_before, due) in [
        (None, IDLE_AT_FIRST),
        (Some(Duration::ZERO), IDLE_AT_FIRST),
        (Some(GOES_ON), IDLE),
    ] {
        let socket = all.comes(key);
        if let Some(before) = answered_before {
            all.is_answered(key, &socket);
            tokio::time::advance(before).await;
        }
        all.speaks(key);
        let begun = Instant::now();
        answer(all.clients.clone(), key, socket, all.out.clone()).await;
        let lasted = begun.elapsed();
        assert!(
            due <= lasted && lasted < due + Duration::from_secs(1),
            "{lasted:?}"
        );
        assert!(all.known().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn who_only_listens_is_established_too() {
    let all = Scripted::new(9).await;
    let key = all.key(0);
    let socket = all.comes(key);
    all.is_answered(key, &socket);
    tokio::time::advance(GOES_ON).await;
    all.is_answered(key, &socket);
    let begun = Instant::now();
    answer(all.clients.clone(), key, socket, all.out.clone()).await;
    assert!(begun.elapsed() >= IDLE, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_port_that_is_not_served_has_no_clients() {
    let all = Scripted::new(9).await;
    let (lower, upper) = (all.key(0), (further(&all.world), all.key(0).1));
    let (_lower, upper_socket) = (all.comes(lower), all.comes(upper));
    drop(Port {
        at: lower.0,
        clients: all.clients.clone(),
    });
    let left = [lower, upper].map(|key| all.clients.backend(key).is_some());
    assert_eq!(left, [false, true]);
    // It is another's by now, to whom the one before says nothing.
    let again = all.comes(lower);
    assert!(!all.clients.heard(lower, &upper_socket, all.to().into()));
    all.is_answered(lower, &again);
}
