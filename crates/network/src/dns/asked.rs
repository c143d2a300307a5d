//! Which messages are queries, and what they ask for.

use hickory_proto::op::{
    Edns, Header, Message, MessageType, Metadata, OpCode, Query, ResponseCode,
};
use hickory_proto::rr::{DNSClass, Name, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};

use super::encode::{self, EDNS_SIZE, PLAIN_SIZE};

/// Bytes of a query: one question and the options of EDNS are far shorter.
pub const LONGEST_QUERY: usize = 4_096;

/// Records behind a question: EDNS's, and a signature, which nobody checks here.
const MOST_ADDITIONALS: u16 = 2;

/// What a message came in over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// A datagram: replies are short, and say so when they were cut.
    Udp,
    /// A stream.
    Tcp,
}

/// One question, and how it may be answered.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    metadata: Metadata,
    /// None where it could not be read.
    question: Option<Query>,
    edns: Option<Edns>,
    over: Over,
}

/// Why there is no [`Asked`].
pub(super) enum Refused {
    /// It is not even a query.
    NoQuery,
    /// This is to be sent back.
    With(Vec<u8>),
}

impl Asked {
    pub(super) fn read(message: &[u8], over: Over) -> Result<Self, Refused> {
        let mut decoder = BinDecoder::new(message);
        let header = Header::read(&mut decoder).map_err(|_| Refused::NoQuery)?;
        if header.metadata.message_type != MessageType::Query {
            return Err(Refused::NoQuery);
        }
        let mut asked = Self {
            metadata: header.metadata,
            question: None,
            edns: None,
            over,
        };
        if header.metadata.op_code != OpCode::Query {
            return Err(asked.refuse(ResponseCode::NotImp));
        }
        let counts = header.counts;
        // Exactly one question: RFC 9619, section 4.
        let is_plain = counts.queries == 1 && counts.answers == 0 && counts.authorities == 0;
        if !is_plain || counts.additionals > MOST_ADDITIONALS || message.len() > LONGEST_QUERY {
            return Err(asked.refuse(ResponseCode::FormErr));
        }
        let malformed = |asked: &Self| asked.refuse(ResponseCode::FormErr);
        asked.question = Some(Query::read(&mut decoder).map_err(|_| malformed(&asked))?);
        let records =
            Message::read_records(&mut decoder, counts.additionals.into(), true, OpCode::Query);
        asked.edns = records.map_err(|_| malformed(&asked))?.1;
        asked.check()?;
        Ok(asked)
    }

    fn check(&self) -> Result<(), Refused> {
        if self.edns.as_ref().is_some_and(|edns| edns.version() > 0) {
            return Err(self.refuse(ResponseCode::BADVERS));
        }
        let class = self.question.as_ref().map(Query::query_class);
        let whole_zone = matches!(self.record_type(), RecordType::AXFR | RecordType::IXFR);
        // These exist within messages only, and are in no zone.
        let no_data = matches!(
            self.record_type(),
            RecordType::OPT | RecordType::TSIG | RecordType::ZERO
        );
        if class != Some(DNSClass::IN) || whole_zone || no_data {
            return Err(self.refuse(ResponseCode::Refused));
        }
        Ok(())
    }

    fn refuse(&self, code: ResponseCode) -> Refused {
        Refused::With(self.failure(code))
    }

    pub(super) fn record_type(&self) -> RecordType {
        self.question
            .as_ref()
            .map_or(RecordType::ZERO, Query::query_type)
    }

    /// The name as it was written.
    pub(super) fn wire_name(&self) -> Name {
        self.question
            .as_ref()
            .map(|question| question.name().clone())
            .unwrap_or_default()
    }

    /// The name as text. What no name of the cluster has in it becomes a question mark, dots within labels too.
    pub(super) fn name(&self) -> String {
        let name = self.wire_name();
        let labels = name.iter().map(|label| {
            let letter = |byte: &u8| match byte {
                b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'-' | b'_' => {
                    byte.to_ascii_lowercase().into()
                }
                _ => '?',
            };
            label.iter().map(letter).collect::<String>()
        });
        labels.collect::<Vec<_>>().join(".")
    }

    /// Whether checks of signatures are left to who asks.
    pub(super) fn checking_disabled(&self) -> bool {
        self.metadata.checking_disabled
    }

    /// A reply without records.
    pub(super) fn reply(&self) -> Message {
        let Metadata { id, op_code, .. } = self.metadata;
        let mut reply = Message::response(id, op_code);
        reply.metadata = Metadata::response_from_request(&self.metadata);
        reply.metadata.recursion_available = true;
        reply.queries.extend(self.question.clone());
        reply.edns = self.edns.as_ref().map(|theirs| {
            let mut edns = Edns::new();
            edns.set_max_payload(EDNS_SIZE);
            // RFC 3225, section 3: it is copied, whether there are signatures or not.
            edns.set_dnssec_ok(theirs.flags().dnssec_ok);
            edns
        });
        reply
    }

    /// A reply that says only what went wrong.
    pub(super) fn failure(&self, code: ResponseCode) -> Vec<u8> {
        let mut reply = self.reply();
        reply.metadata.response_code = code;
        self.finish(reply)
    }

    /// The bytes of a reply, as many as who asked can take.
    pub(super) fn finish(&self, reply: Message) -> Vec<u8> {
        let most = match (self.over, &self.edns) {
            (Over::Tcp, _) => u16::MAX,
            (Over::Udp, None) => PLAIN_SIZE,
            (Over::Udp, Some(edns)) => edns.max_payload().clamp(PLAIN_SIZE, EDNS_SIZE),
        };
        encode::encode(reply, most)
    }
}
