//! Whatever the bytes are, nothing panics and no reply is too long.

use super::table::TABLE;
use super::*;

/// Cases a test goes through.
const CASES: u64 = 20_000;

/// Numbers by a seed: splitmix64.
struct Random(u64);

impl Random {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Less than `bound`; 0 for a bound of 0.
    fn below(&mut self, bound: usize) -> usize {
        (self.bits() % bound.max(1) as u64) as usize
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        let length = self.below(most);
        (0..length).map(|_| self.bits() as u8).collect()
    }
}

/// Good messages, of which bad ones are made.
fn seeds() -> Vec<Vec<u8>> {
    let seeds = TABLE.iter().enumerate().map(|(at, (question, _))| {
        let mut query = query(question);
        query.edns = (at % 3 != 0).then(|| edns(at as u16 * 50));
        query.to_vec().unwrap()
    });
    seeds.collect()
}

/// Damages a message at a few places.
fn mutate(bytes: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len());
        match random.below(7) {
            0 => bytes.truncate(at),
            1 => bytes.extend(random.bytes(64)),
            2 => bytes.insert(at, random.bits() as u8),
            // A pointer, to anywhere in the message.
            3 if at + 1 < bytes.len() => {
                bytes[at..at + 2].copy_from_slice(&[0xc0, random.bits() as u8])
            }
            4 if bytes.len() > 12 => bytes[4 + random.below(8)] = random.bits() as u8,
            5 if at < bytes.len() => bytes[at] = random.bits() as u8,
            _ if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            _ => {}
        }
    }
}

/// Answers over both transports, and looks at what came out. Returns whether there was a reply.
fn check(bytes: &[u8], names: &Names, turn: usize) -> bool {
    let mut replied = false;
    for over in [Over::Udp, Over::Tcp] {
        let reply = match answer(bytes, names, over, turn) {
            Answer::Reply(reply) => reply,
            Answer::Forward(forward) => {
                assert!(!forward.query(1).is_empty());
                forward.failed()
            }
            Answer::Ignore => {
                assert!(bytes.len() < 12 || bytes[2] & 0x80 != 0, "{bytes:02x?}");
                continue;
            }
        };
        replied = true;
        // Nobody gets more than they said they take, and that only behind a question that could be read.
        let theirs = Message::from_vec(bytes).ok();
        let most = match (over, theirs.and_then(|query| query.edns)) {
            (Over::Tcp, _) => u16::MAX,
            (Over::Udp, None) => 512,
            (Over::Udp, Some(edns)) => edns.max_payload().clamp(512, 1_232),
        };
        assert!(
            reply.len() <= most.into(),
            "{} bytes to {bytes:02x?}",
            reply.len()
        );
        let reply =
            Message::from_vec(&reply).unwrap_or_else(|error| panic!("{error} to {bytes:02x?}"));
        assert_eq!(reply.metadata.message_type, MessageType::Response);
        assert_eq!(reply.metadata.id.to_be_bytes(), bytes[..2]);
        assert!(reply.queries.len() <= 1);
    }
    replied
}

#[test]
fn damaged_queries_get_short_replies_or_none() {
    let (names, seeds) = (cluster(), seeds());
    let mut replies = 0;
    for seed in 0..CASES {
        let mut random = Random(seed);
        let mut bytes = seeds[random.below(seeds.len())].clone();
        mutate(&mut bytes, &mut random);
        replies += u64::from(check(&bytes, &names, random.below(usize::MAX)));
    }
    assert!(replies > CASES / 2, "{replies} of {CASES} were worth one");
}

#[test]
fn noise_gets_short_replies_or_none() {
    let names = cluster();
    for seed in 0..CASES {
        let mut random = Random(seed);
        let bytes = random.bytes(300);
        check(&bytes, &names, 0);
        // The same behind the header of a query for one name.
        let header = [0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, random.below(3) as u8];
        assert!(check(&[&header, bytes.as_slice()].concat(), &names, 0));
    }
}

#[test]
fn damaged_answers_from_outside_become_short_replies_or_none() {
    let query = query("docs.shop.svc.cluster.local A").to_vec().unwrap();
    let Answer::Forward(forward) = answer(&query, &cluster(), Over::Udp, 0) else {
        panic!("docs are outside")
    };
    let mut right = Message::from_vec(&forward.query(7)).unwrap();
    right.metadata.message_type = MessageType::Response;
    let owner = right.queries[0].name().clone();
    right.answers = vec![record(owner, RData::A(A::new(192, 0, 2, 1))); 3];
    let right = right.to_vec().unwrap();
    let mut taken = 0;
    for seed in 0..CASES {
        let mut random = Random(seed);
        let mut bytes = right.clone();
        mutate(&mut bytes, &mut random);
        if let Some(reply) = forward.reply(7, &bytes) {
            taken += 1;
            assert!(reply.len() <= 512, "{bytes:02x?}");
            Message::from_vec(&reply).unwrap_or_else(|error| panic!("{error} to {bytes:02x?}"));
        }
    }
    assert!(taken > CASES / 10, "{taken} of {CASES}");
}

#[test]
fn names_of_any_text_are_looked_up() {
    const WORDS: &[&str] = &[
        "cluster.local",
        "svc",
        "pod",
        "shop",
        "db",
        "db-0",
        "_tcp",
        "_sql",
        "_",
        "in-addr.arpa",
        "10",
        "128",
        "",
        ".",
        "é",
        "10-128-0-2",
        "10-128-0-",
        "circle",
        "docs",
        "*",
        "\0",
    ];
    let names = cluster();
    for seed in 0..CASES {
        let mut random = Random(seed);
        let words = (0..random.below(9)).map(|_| WORDS[random.below(WORDS.len())]);
        let name = words.collect::<Vec<_>>().join(".");
        let chain = names.follow(&name);
        assert!(chain.aliases.len() <= 8);
        if let Lookup::Node(_, node) = names.lookup(&name) {
            assert!(
                node.addresses(random.below(usize::MAX)).len() <= 3,
                "{name}"
            );
            assert!(node.servers(random.below(usize::MAX)).len() <= 3, "{name}");
        }
    }
}
