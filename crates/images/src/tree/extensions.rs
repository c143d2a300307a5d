//! Members of an archive that describe the one after them: GNU's long names, and pax records.

use std::io::Read;

use tar::{Entry, EntryType};

use super::unpack::unreadable;
use crate::Error;

/// The longest such member, in bytes: it is read into memory before anything is known of what it describes.
const LONGEST: u64 = 64 << 10;

/// What is said of the next member.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Extensions {
    /// Its path.
    pub path: Option<Vec<u8>>,
    /// Where it leads, of a link.
    pub link: Option<Vec<u8>>,
    /// Bytes of its content.
    pub size: Option<u64>,
}

impl Extensions {
    /// Takes in `entry` if it describes the next member, and says whether it does.
    ///
    /// # Errors
    /// When it is damaged, too long, or describes what is not unpacked.
    pub fn take(&mut self, entry: &mut Entry<'_, impl Read>) -> Result<bool, Error> {
        match entry.header().entry_type() {
            EntryType::GNULongName => self.path = Some(long_name(content(entry)?)),
            EntryType::GNULongLink => self.link = Some(long_name(content(entry)?)),
            EntryType::XHeader => self.records(&content(entry)?)?,
            // git archive's comment.
            EntryType::XGlobalHeader => {}
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Reads records of the form `LENGTH KEY=VALUE\n`.
    fn records(&mut self, mut rest: &[u8]) -> Result<(), Error> {
        while !rest.is_empty() {
            let (key, value, after) =
                record(rest).ok_or_else(|| Error::Archive("a pax record is damaged".to_owned()))?;
            match key {
                b"path" => self.path = Some(value.to_owned()),
                b"linkpath" => self.link = Some(value.to_owned()),
                b"size" => {
                    let text = std::str::from_utf8(value).ok();
                    let size = text.and_then(|t| t.parse().ok());
                    self.size = Some(size.ok_or_else(|| {
                        Error::Archive("a pax record's size is no number".to_owned())
                    })?);
                }
                _ if key.starts_with(b"GNU.sparse.") => {
                    return Err(Error::Archive("it holds a sparse file".to_owned()));
                }
                _ => {}
            }
            rest = after;
        }
        Ok(())
    }
}

fn content(entry: &mut Entry<'_, impl Read>) -> Result<Vec<u8>, Error> {
    if entry.size() > LONGEST {
        return Err(Error::Archive(format!(
            "it describes a member by more than {LONGEST} bytes"
        )));
    }
    let mut content = Vec::new();
    entry.read_to_end(&mut content).map_err(unreadable)?;
    Ok(content)
}

fn long_name(mut name: Vec<u8>) -> Vec<u8> {
    if name.last() == Some(&0) {
        name.pop();
    }
    name
}

/// The first record's key and value, and what follows it.
fn record(all: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = all.iter().position(|b| *b == b' ')?;
    let length: usize = std::str::from_utf8(&all[..space]).ok()?.parse().ok()?;
    let (record, after) = all.split_at_checked(length)?;
    let record = record.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|b| *b == b'=')?;
    Some((&record[..equals], &record[equals + 1..], after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pax_records() {
        let mut said = Extensions::default();
        said.records(b"14 path=a\nb/c\n9 size=7\n18 linkpath=../xy\n16 mtime=1.5000\n")
            .unwrap();
        let want = Extensions {
            path: Some(b"a\nb/c".to_vec()),
            link: Some(b"../xy".to_vec()),
            size: Some(7),
        };
        assert_eq!(said, want);
        for damaged in [
            "x",
            "5",
            "99 path=a\n",
            "3 a\n",
            "0 ",
            "9 size=x\n",
            "21 GNU.sparse.size=1\n",
        ] {
            assert!(said.records(damaged.as_bytes()).is_err(), "{damaged}");
        }
    }
}
