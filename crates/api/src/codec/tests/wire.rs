//! Just enough of an encoder to test the decoder with.

pub(super) fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

pub(super) fn number(field: u32, value: i64) -> Vec<u8> {
    [varint(u64::from(field << 3)), varint(value as u64)].concat()
}

pub(super) fn bytes(field: u32, value: &[u8]) -> Vec<u8> {
    [
        varint(u64::from(field << 3 | 2)),
        varint(value.len() as u64),
        value.to_vec(),
    ]
    .concat()
}

pub(super) fn text(field: u32, value: &str) -> Vec<u8> {
    bytes(field, value.as_bytes())
}

pub(super) fn message(field: u32, parts: &[Vec<u8>]) -> Vec<u8> {
    bytes(field, &parts.concat())
}

pub(super) fn envelope(api_version: &str, kind: &str, object: &[Vec<u8>]) -> Vec<u8> {
    let parts = [
        message(1, &[text(1, api_version), text(2, kind)]),
        message(2, object),
        text(3, ""),
        text(4, ""),
    ];
    [b"k8s\0".to_vec(), parts.concat()].concat()
}

/// The last of a message's parts with this number, which must be bytes as all of the envelope's are.
pub(super) fn part(mut message: &[u8], field: u64) -> Vec<u8> {
    let mut found = Vec::new();
    let next = |message: &mut &[u8]| {
        let (mut value, mut shift) = (0_u64, 0);
        while let Some((byte, rest)) = message.split_first() {
            *message = rest;
            value |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if *byte < 0x80 {
                break;
            }
        }
        value
    };
    while !message.is_empty() {
        let tag = next(&mut message);
        let length = usize::try_from(next(&mut message)).expect("length");
        let (value, rest) = message.split_at(length);
        if tag >> 3 == field {
            found = value.to_vec();
        }
        message = rest;
    }
    found
}
