//! `cat`: files one after the other.

use super::options::{Options, Spec};
use super::{Answer, Call, words};

pub(super) async fn cat(call: &mut Call) -> Answer {
    let mut options = Options::of(&call.args, Spec::default())?;
    if options.operands.is_empty() {
        options.operands.push("-".to_owned());
    }
    let mut code = 0;
    for name in &options.operands {
        let copied = match call.source(name).await {
            Ok(source) => call.copy(source).await?,
            Err(error) => Err(error),
        };
        if let Err(error) = copied {
            call.complain(&format!("{name}: {}", words(&error))).await;
            code = 1;
        }
    }
    Ok(code)
}
