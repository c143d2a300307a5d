//! `rm`: removes files, and directories with all that is in them.

use std::io;

use rustix::io::Errno;
use tokio_util::sync::CancellationToken;

use super::options::{Options, Spec};
use super::{Answer, Call, failed, words};

const SPEC: Spec = Spec {
    flags: "fRr",
    values: "",
    long: &[("force", 'f'), ("recursive", 'r')],
    leading: false,
};

pub(super) async fn rm(call: &mut Call) -> Answer {
    let options = Options::of(&call.args, SPEC)?;
    let (force, tree) = (options.has('f'), options.has('r') || options.has('R'));
    if options.operands.is_empty() && !force {
        return Err(failed("missing operand"));
    }
    let mut code = 0;
    for name in &options.operands {
        let why = match name.trim_end_matches('/').rsplit('/').next() {
            Some("." | "..") => Some("refusing to remove '.' or '..'".to_owned()),
            _ => match remove(call, name, tree).await {
                Ok(()) => None,
                Err(error) if force && error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => Some(format!("can't remove '{name}': {}", words(&error))),
            },
        };
        if let Some(why) = why {
            call.complain(&why).await;
            code = 1;
        }
    }
    Ok(code)
}

async fn remove(call: &Call, name: &str, tree: bool) -> io::Result<()> {
    let waited_for = CancellationToken::new();
    let _ends = waited_for.clone().drop_guard();
    let path = name.to_owned();
    let removed = call.files(move |view| {
        // A tree that is not there would be none to complain of.
        let is_dir = view.info(bare(&path), false)?.is_dir();
        // Neither the link goes, nor what it leads to.
        if path.ends_with('/') && !is_dir {
            return Err(Errno::NOTDIR.into());
        }
        view.remove(&path, tree && is_dir, &|| !waited_for.is_cancelled())
    });
    removed.await
}

/// A path without what would have a link followed.
fn bare(path: &str) -> &str {
    match path.trim_end_matches('/') {
        "" if path.starts_with('/') => "/",
        bare => bare,
    }
}
