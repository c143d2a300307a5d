//! Replies as bytes, no longer than they may be.

use hickory_proto::ProtoError;
use hickory_proto::op::{
    Edns, Header, HeaderCounts, Message, Metadata, Query, ResponseCode, emit_message_parts,
};
use hickory_proto::rr::Record;
use hickory_proto::serialize::binary::{BinEncodable, BinEncoder};

/// Bytes of a reply over UDP to who says nothing else (RFC 1035, section 4.2.1).
pub const PLAIN_SIZE: u16 = 512;
/// Bytes of a reply over UDP to who can take more: the most that no network parts.
pub const EDNS_SIZE: u16 = 1_232;

/// A pointer to the question's name, which comes right behind the header (RFC 1035, section 4.1.4).
const QUESTION: u16 = 0xc000 | 12;
/// Bytes of EDNS's record without options.
const EDNS_RECORD: u16 = 11;
/// Bytes of the shortest record: a pointer to its name, and nothing in it.
const SHORTEST_RECORD: usize = 12;

/// The bytes of a reply, at most so many. When answers or what stands for them have to go, the reply says that it was
/// cut, so that its reader asks again over TCP; what is only added for convenience goes silently (RFC 2181, section 9).
pub(super) fn encode(mut message: Message, most: u16) -> Vec<u8> {
    // One more than there is room for shows that it was cut.
    let records = usize::from(most) / SHORTEST_RECORD + 1;
    message.answers.truncate(records);
    message.additionals.truncate(records);
    let bytes = match emit(&message, message.edns.as_ref(), most) {
        Ok((header, bytes)) if is_whole(&message, &header) => Ok(bytes),
        Ok(_) => cut(&mut message, most),
        Err(error) => Err(error),
    };
    bytes.unwrap_or_else(|_| failure(&message.metadata))
}

fn is_whole(message: &Message, header: &Header) -> bool {
    let counts = [
        header.counts.answers,
        header.counts.authorities,
        header.counts.additionals,
    ];
    let additionals = message.additionals.len() + usize::from(message.edns.is_some());
    counts.map(usize::from)
        == [
            message.answers.len(),
            message.authorities.len(),
            additionals,
        ]
}

/// Drops the records that do not fit beside EDNS's.
fn cut(message: &mut Message, most: u16) -> Result<Vec<u8>, ProtoError> {
    let reserved = if message.edns.is_some() {
        EDNS_RECORD
    } else {
        0
    };
    let (header, _) = emit(message, None, most - reserved)?;
    let [answers, authorities] =
        [header.counts.answers, header.counts.authorities].map(usize::from);
    message.metadata.truncation |=
        answers < message.answers.len() || authorities < message.authorities.len();
    message.answers.truncate(answers);
    message.authorities.truncate(authorities);
    message
        .additionals
        .truncate(header.counts.additionals.into());
    let (_, bytes) = emit(message, message.edns.as_ref(), most)?;
    Ok(bytes)
}

fn emit(
    message: &Message,
    edns: Option<&Edns>,
    most: u16,
) -> Result<(Header, Vec<u8>), ProtoError> {
    let asked = message.queries.first().map(Query::name);
    let sections = [&message.answers, &message.authorities, &message.additionals];
    let [answers, authorities, additionals] = sections.map(|records| {
        let records = records.iter().map(|record| Short {
            record,
            is_asked: asked.is_some_and(|asked| record.name.eq_case(asked)),
        });
        records.collect::<Vec<_>>()
    });
    let mut bytes = Vec::new();
    let mut encoder = BinEncoder::new(&mut bytes);
    encoder.set_max_size(most);
    let header = emit_message_parts(
        &message.metadata,
        &mut message.queries.iter(),
        &mut answers.iter(),
        &mut authorities.iter(),
        &mut additionals.iter(),
        edns,
        None,
        &mut encoder,
    )?;
    Ok((header, bytes))
}

/// A record, whose name is a pointer to the question's where it is that. The encoder would point there too, but not in
/// more than about a hundred records of a message.
struct Short<'a> {
    record: &'a Record,
    is_asked: bool,
}

impl BinEncodable for Short<'_> {
    fn emit(&self, encoder: &mut BinEncoder<'_>) -> Result<(), ProtoError> {
        if !self.is_asked {
            return self.record.emit(encoder);
        }
        encoder.emit_u16(QUESTION)?;
        self.record.record_type().emit(encoder)?;
        self.record.dns_class.emit(encoder)?;
        encoder.emit_u32(self.record.ttl)?;
        let length = encoder.place::<u16>()?;
        self.record.data.emit(encoder)?;
        let written = encoder.len_since_place(&length);
        length.replace(encoder, written as u16)
    }
}

/// For a record that cannot be written, which only one from outside could be.
fn failure(metadata: &Metadata) -> Vec<u8> {
    let mut metadata = *metadata;
    metadata.response_code = ResponseCode::ServFail;
    let header = Header {
        metadata,
        counts: HeaderCounts::default(),
    };
    header.to_bytes().unwrap_or_default()
}
