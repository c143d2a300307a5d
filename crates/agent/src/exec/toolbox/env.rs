//! `env` and `printenv`: the container's environment.

use std::sync::Arc;

use super::options::{Options, Spec};
use super::{Answer, Call, Stop, dispatch, offers};

const SPEC: Spec = Spec {
    flags: "i",
    values: "u",
    long: &[("ignore-environment", 'i'), ("unset", 'u')],
    leading: true,
};

/// Prints the environment, or runs a command of the toolbox in another one.
pub(super) async fn env(call: &mut Call) -> Answer {
    let options = Options::of(&call.args, SPEC)?;
    let mut view = (*call.view).clone();
    if options.has('i') {
        view.env.clear();
    }
    for unset in options.values('u') {
        view.env.retain(|(name, _)| name != unset);
    }
    let mut words = options.operands.into_iter().peekable();
    while let Some((name, value)) = words.peek().and_then(|word| word.split_once('=')) {
        let (name, value) = (name.to_owned(), value.to_owned());
        match view.env.iter_mut().find(|(known, _)| *known == name) {
            Some(known) => known.1 = value,
            None => view.env.push((name, value)),
        }
        words.next();
    }
    let command: Vec<String> = words.collect();
    match command.first() {
        None => {
            let lines = view
                .env
                .iter()
                .map(|(name, value)| format!("{name}={value}\n"));
            call.print(lines.collect::<String>()).await?;
            Ok(0)
        }
        Some(name) if !offers(name) => Err(Stop::Failed(
            127,
            format!("{name}: not a command of the toolbox"),
        )),
        Some(_) => {
            let mut call = call.beside(command);
            call.view = Arc::new(view);
            Ok(Box::pin(dispatch(call)).await)
        }
    }
}

/// Prints what single variables are.
pub(super) async fn printenv(call: &mut Call) -> Answer {
    let options = Options::of(&call.args, Spec::default())?;
    let env = call.view.env.clone();
    if options.operands.is_empty() {
        let lines = env.iter().map(|(name, value)| format!("{name}={value}\n"));
        call.print(lines.collect::<String>()).await?;
        return Ok(0);
    }
    let mut code = 0;
    for name in &options.operands {
        match env.iter().find(|(known, _)| known == name) {
            Some((_, value)) => call.print(format!("{value}\n")).await?,
            None => code = 1,
        }
    }
    Ok(code)
}
