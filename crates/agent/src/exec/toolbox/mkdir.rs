//! `mkdir`: directories.

use std::io;

use super::super::view::View;
use super::options::{Options, Spec};
use super::{Answer, Call, words};

const SPEC: Spec = Spec {
    flags: "p",
    values: "",
    long: &[("parents", 'p')],
    leading: false,
};

pub(super) async fn mkdir(call: &mut Call) -> Answer {
    let options = Options::of(&call.args, SPEC)?;
    let parents = options.has('p');
    let mut code = 0;
    for name in options.some_operands()? {
        let path = name.clone();
        let _paid = call
            .pay_names(match parents {
                true => name.split('/').filter(|part| !part.is_empty()).count(),
                false => 1,
            })
            .await;
        let made = call.files(move |view| match parents {
            true => with_parents(view, &path),
            false => view.make_dir(&path),
        });
        if let Err(error) = made.await {
            let why = format!("can't create directory '{name}': {}", words(&error));
            call.complain(&why).await;
            code = 1;
        }
    }
    Ok(code)
}

fn with_parents(view: &View, path: &str) -> io::Result<()> {
    let whole = view.absolute(path)?;
    let ends = whole.match_indices('/').skip(1).map(|(at, _)| at);
    for end in ends.chain([whole.len()]) {
        match view.make_dir(&whole[..end]) {
            Err(_)
                if view
                    .info(&whole[..end], true)
                    .is_ok_and(|info| info.is_dir()) => {}
            made => made?,
        }
    }
    Ok(())
}
