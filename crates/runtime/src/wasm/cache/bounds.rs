//! What is compiled at all, and how much at once: whoever made a module, others wait for their turn no longer than that allows.

use tokio::sync::Semaphore;

use crate::ModuleSource;
use crate::wasm::classify::{code, largest_memory};

/// The largest function that is compiled, in bytes of its code: what compiling takes grows faster than that. The largest of
/// real programs are a fifth of it.
const LARGEST_FUNCTION: u64 = 1 << 20;

/// Bytes of code that all functions of a module may have, and of one that is not kept: a guest may have written that, and
/// another one each time.
const LARGEST_CODE: (u64, u64) = (64 << 20, 16 << 20);

/// One module is compiled at a time, for it takes all cores and much memory meanwhile; and beside it a small one, which has not
/// to wait for as long as a large one takes.
pub(super) struct Turns {
    large: Semaphore,
    small: Semaphore,
}

impl Default for Turns {
    fn default() -> Self {
        Self {
            large: Semaphore::new(1),
            small: Semaphore::new(1),
        }
    }
}

impl Turns {
    /// For a file of so many bytes.
    pub(super) fn of(&self, length: u64) -> &Semaphore {
        match length <= ModuleSource::SMALL {
            true => &self.small,
            false => &self.large,
        }
    }
}

/// Refuses a module whose memories the handler has no room for, or with more code than is compiled, before it is compiled.
pub(super) fn fits(source: &ModuleSource, bytes: &[u8]) -> Result<(), String> {
    let fits = source.handler.fits(largest_memory(bytes)?);
    fits.map_err(|refused| refused.to_string())?;
    let code = code(bytes)?;
    let (at, largest) = code.largest;
    if largest > LARGEST_FUNCTION {
        return Err(format!(
            "the function at byte {at} has {largest} bytes of code; one has at most {LARGEST_FUNCTION}"
        ));
    }
    let most = match source.keep {
        true => LARGEST_CODE.0,
        false => LARGEST_CODE.1,
    };
    match code.all > most {
        true => Err(format!(
            "functions of {} bytes of code together; here they have at most {most}",
            code.all
        )),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Handler;

    /// `value` as LEB128 has it.
    fn number(mut value: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        loop {
            let seven = u8::try_from(value & 0x7f).unwrap();
            value >>= 7;
            match value {
                0 => break bytes.push(seven),
                _ => bytes.push(seven | 0x80),
            }
        }
        bytes
    }

    /// A module with so many functions, each of so many bytes.
    fn module(functions: usize, length: usize) -> Vec<u8> {
        let body = [&[0], &vec![1; length - 2][..], &[0x0b]].concat();
        let body = [number(length), body].concat();
        let sections = [
            (1, vec![1, 0x60, 0, 0]),
            (3, [number(functions), vec![0; functions]].concat()),
            (10, [number(functions), body.repeat(functions)].concat()),
        ];
        let mut module = b"\0asm\x01\0\0\0".to_vec();
        for (id, section) in sections {
            module.push(id);
            module.extend(number(section.len()));
            module.extend(section);
        }
        module
    }

    #[test]
    fn too_much_code_is_refused_by_name() {
        let source = |keep| ModuleSource {
            path: "unread".into(),
            digest: "unread".into(),
            keep,
            handler: Handler::default(),
        };
        let largest = usize::try_from(LARGEST_FUNCTION).unwrap();
        for (functions, length, keep, refused) in [
            (1, largest, false, None),
            (
                1,
                largest + 1,
                true,
                Some("has 1048577 bytes of code; one has at most 1048576"),
            ),
            (16, largest, false, None),
            (17, largest, false, Some("at most 16777216")),
            (17, largest, true, None),
            (65, largest, true, Some("at most 67108864")),
        ] {
            let case = format!("{functions} of {length}, kept: {keep}");
            match (fits(&source(keep), &module(functions, length)), refused) {
                (Ok(()), None) => {}
                (Err(why), Some(refused)) => assert!(why.contains(refused), "{case}: {why}"),
                (other, _) => panic!("{case}: {other:?}"),
            }
        }
    }

    #[tokio::test]
    async fn small_ones_do_not_wait_for_large_ones() {
        let turns = Turns::default();
        let large = turns.of(ModuleSource::SMALL + 1).acquire().await.unwrap();
        assert!(turns.of(u64::MAX).try_acquire().is_err());
        let small = turns.of(ModuleSource::SMALL).try_acquire().unwrap();
        assert!(turns.of(0).try_acquire().is_err());
        drop((large, small));
    }
}
