//! The ways to run a module, which RuntimeClasses name.

/// How the linear memories of a module's instances lie in the process' address space, which its code is compiled for.
/// Guests of all handlers share the threads, the limits and the network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Handler {
    /// Each memory may grow to 4 GiB, and has as many addresses to itself: nothing has to be checked when it is used.
    #[default]
    Carob,
    /// Each memory may grow to 256 MiB. Several times as many instances fit, and use of memory is checked, which costs up to
    /// a third of a guest's speed.
    Dense,
}

impl Handler {
    /// All there are.
    pub const ALL: [Self; 2] = [Self::Carob, Self::Dense];

    /// As RuntimeClasses name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Carob => "carob",
            Self::Dense => "dense",
        }
    }

    /// The one of this name.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|handler| handler.name() == name)
    }

    /// The most bytes of one linear memory.
    pub fn largest_memory(self) -> u64 {
        match self {
            Self::Carob => 4 << 30,
            Self::Dense => 256 << 20,
        }
    }

    /// Whether there is room for a linear memory of so many bytes. That nobody has room for it is the engine's to say.
    pub(crate) fn fits(self, wanted: u64) -> Result<(), TooLarge> {
        let is_too_large = wanted > self.largest_memory() && self != Self::default();
        match is_too_large {
            true => Err(TooLarge {
                handler: self,
                wanted,
            }),
            false => Ok(()),
        }
    }
}

/// A linear memory that its handler has no room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a linear memory of {wanted} bytes: the runtime class of the handler \"{}\" has room for {} bytes, \
     and that of the handler \"carob\", which is the default one, for more",
    handler.name(),
    handler.largest_memory()
)]
pub(crate) struct TooLarge {
    handler: Handler,
    wanted: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handlers_have_names() {
        for handler in Handler::ALL {
            assert_eq!(Handler::of_name(handler.name()), Some(handler));
        }
        assert_eq!(Handler::of_name(""), None);
        assert_eq!(Handler::default().name(), "carob");
        for (handler, wanted, is_room) in [
            (Handler::Dense, 256 << 20, true),
            (Handler::Dense, (256 << 20) + 1, false),
            (Handler::Carob, 4 << 30, true),
            (Handler::Carob, u64::MAX, true),
        ] {
            assert_eq!(
                handler.fits(wanted).is_ok(),
                is_room,
                "{handler:?} {wanted}"
            );
        }
        let words = Handler::Dense.fits(1 << 30).unwrap_err().to_string();
        assert!(
            words.contains("1073741824") && words.contains("\"dense\""),
            "{words}"
        );
    }
}
