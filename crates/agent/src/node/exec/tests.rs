use client::node::{ExecStart, ExecStdinEnd, TerminalSize};
use network::pipe::Reader;
use runtime::Output;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tonic::Code;

use super::super::calls::Calls;
use super::*;

type Requests = mpsc::Sender<Result<ExecRequest, Status>>;

const ALL: Held = Held {
    stdin: true,
    stdout: true,
    stderr: true,
    tty: false,
};
const TTY: Held = Held { tty: true, ..ALL };

/// A command that is started, whose streams are carried, and which other calls do not disturb.
fn open<C>(held: Held, command: impl FnOnce(Streams) -> C + Send + 'static) -> (Requests, Responses)
where
    C: Future<Output = i32> + Send + 'static,
{
    open_of(&Calls::default(), held, command)
}

fn open_of<C>(
    calls: &Calls,
    held: Held,
    command: impl FnOnce(Streams) -> C + Send + 'static,
) -> (Requests, Responses)
where
    C: Future<Output = i32> + Send + 'static,
{
    let (requests, responses) = ready(calls, held, command);
    requests.try_send(Ok(start())).unwrap();
    (requests, responses)
}

fn start() -> ExecRequest {
    let what = Some(Asked::Start(ExecStart {}));
    ExecRequest { what }
}

/// A command that is not started yet.
fn ready<C>(
    calls: &Calls,
    held: Held,
    command: impl FnOnce(Streams) -> C + Send + 'static,
) -> (Requests, Responses)
where
    C: Future<Output = i32> + Send + 'static,
{
    let (requests, mut queue) = mpsc::channel(1);
    let queue = stream::poll_fn(move |cx| queue.poll_recv(cx));
    let call = calls.enter(1).unwrap();
    (requests, carry(|_| command, held, |_| {}, queue, call))
}

async fn ask(requests: &Requests, what: Asked) {
    let request = ExecRequest { what: Some(what) };
    requests.send(Ok(request)).await.unwrap();
}

async fn type_in(requests: &Requests, keys: &'static [u8]) {
    ask(requests, Asked::Stdin(Bytes::from_static(keys))).await;
}

async fn next(responses: &mut Responses) -> Option<Result<Said, Code>> {
    let next = responses.next().await?;
    Some(next.map(|r| r.what.unwrap()).map_err(|s| s.code()))
}

/// All that is printed to the end, and the exit code or why there is none.
async fn all(responses: &mut Responses) -> (String, String, Result<i32, Code>) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let exit = loop {
        match next(responses).await.unwrap() {
            Ok(Said::Stdout(bytes)) => out.extend_from_slice(&bytes),
            Ok(Said::Stderr(bytes)) => err.extend_from_slice(&bytes),
            Ok(Said::Exit(code)) => break Ok(code),
            Err(code) => break Err(code),
        }
    };
    assert_eq!(next(responses).await, None);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(out), text(err), exit)
}

/// All that comes in.
async fn read_all(stdin: Option<Reader>) -> Vec<u8> {
    let mut all = Vec::new();
    if let Some(stdin) = stdin {
        let mut source = runtime::Source::from(stdin);
        source.read_to_end(&mut all).await.unwrap();
    }
    all
}

/// Prints what comes in.
async fn cat(mut streams: Streams) -> i32 {
    let all = read_all(streams.stdin.take()).await;
    streams.stdout.write_all(&all).await.unwrap();
    0
}

#[tokio::test]
async fn what_comes_in_goes_out() {
    let (requests, mut responses) = open(ALL, cat);
    type_in(&requests, b"one ").await;
    type_in(&requests, b"two").await;
    ask(&requests, Asked::StdinEnd(ExecStdinEnd {})).await;
    let ended = all(&mut responses).await;
    assert_eq!(ended, ("one two".to_owned(), String::new(), Ok(0)));
}

#[tokio::test(start_paused = true)]
async fn nothing_runs_before_somebody_is_there() {
    let never = |_: Streams| -> std::future::Pending<i32> { panic!("it was not started") };
    // Nobody comes, and however long it takes.
    let (requests, mut responses) = ready(&Calls::default(), TTY, never);
    tokio::time::sleep(100 * PATIENCE).await;
    drop(requests);
    assert_eq!(all(&mut responses).await.2, Err(Code::Cancelled));
    // Something else comes first.
    let (requests, mut responses) = ready(&Calls::default(), ALL, never);
    type_in(&requests, b"x").await;
    assert_eq!(all(&mut responses).await.2, Err(Code::InvalidArgument));
    // Who comes late has a terminal's size to say all the same.
    let size = TerminalSize {
        width: 80,
        height: 24,
    };
    let (requests, mut responses) = ready(&Calls::default(), TTY, |streams| async move {
        let size = Some((80, 24));
        i32::from(streams.terminal == Some(Terminal { size }))
    });
    tokio::time::sleep(100 * PATIENCE).await;
    requests.send(Ok(start())).await.unwrap();
    ask(&requests, Asked::Size(size)).await;
    assert_eq!(all(&mut responses).await.2, Ok(1));
    // It is started once.
    let (requests, mut responses) = open(ALL, |_| pending::<i32>());
    requests.send(Ok(start())).await.unwrap();
    assert_eq!(all(&mut responses).await.2, Err(Code::InvalidArgument));
}

#[tokio::test]
async fn who_is_accepted_sees_what_comes_before_he_is_there() {
    let (requests, mut queue) = mpsc::channel(1);
    let queue = stream::poll_fn(move |cx| queue.poll_recv(cx));
    let accepted = |stdout: Option<Sink>| {
        Output::write(&stdout.unwrap(), "early, ".into()).unwrap();
        cat
    };
    let call = Calls::default().enter(1).unwrap();
    let mut responses = carry(accepted, ALL, |_| {}, queue, call);
    requests.send(Ok(start())).await.unwrap();
    type_in(&requests, b"late").await;
    ask(&requests, Asked::StdinEnd(ExecStdinEnd {})).await;
    let ended = all(&mut responses).await;
    assert_eq!(ended, ("early, late".to_owned(), String::new(), Ok(0)));
    // Who does not look is shown nothing.
    let unseen = Held {
        stdout: false,
        ..ALL
    };
    let mut shown = None;
    let accepted = |stdout: Option<Sink>| {
        shown = Some(stdout.is_some());
        cat
    };
    let call = Calls::default().enter(1).unwrap();
    drop(carry(accepted, unseen, |_| {}, stream::empty(), call));
    assert_eq!(shown, Some(false));
}

#[tokio::test]
async fn all_that_was_printed_comes_before_the_exit_code() {
    let long = "x".repeat(10 * WAITING);
    let printed = long.clone();
    let (_requests, mut responses) = open(ALL, |mut streams| async move {
        streams.stdout.write_all(printed.as_bytes()).await.unwrap();
        streams.stderr.write_all(b"and this").await.unwrap();
        7
    });
    let ended = all(&mut responses).await;
    assert_eq!(ended, (long, "and this".to_owned(), Ok(7)));
}

#[tokio::test]
async fn streams_that_nobody_has() {
    let held = Held {
        stdin: false,
        stdout: false,
        ..ALL
    };
    let print = |mut streams: Streams| async move {
        assert!(streams.stdin.is_none());
        streams.stdout.write_all(&[0; 2 * WAITING]).await.unwrap();
        streams.stderr.write_all(b"err").await.unwrap();
        0
    };
    let (_requests, mut responses) = open(held, print);
    let ended = all(&mut responses).await;
    assert_eq!(ended, (String::new(), "err".to_owned(), Ok(0)));
    // Nothing is typed where nobody reads, and nothing after the end.
    let forever = |_: Streams| pending::<i32>();
    let (requests, mut responses) = open(held, forever);
    type_in(&requests, b"x").await;
    assert_eq!(all(&mut responses).await.2, Err(Code::InvalidArgument));
    let (requests, mut responses) = open(ALL, forever);
    ask(&requests, Asked::StdinEnd(ExecStdinEnd {})).await;
    type_in(&requests, b"x").await;
    assert_eq!(all(&mut responses).await.2, Err(Code::InvalidArgument));
}

/// A command that never ends by itself, and what tells of its end.
fn endless() -> (
    impl FnOnce(Streams) -> futures::future::BoxFuture<'static, i32> + Send,
    oneshot::Receiver<()>,
) {
    let (held, ended) = oneshot::channel::<()>();
    let command = move |streams: Streams| {
        async move {
            let _held = (held, streams);
            pending().await
        }
        .boxed()
    };
    (command, ended)
}

#[tokio::test]
async fn nobody_is_there_any_more() {
    // The requests end.
    let (command, ended) = endless();
    let (requests, mut responses) = open(ALL, command);
    type_in(&requests, b"x").await;
    drop(requests);
    assert_eq!(next(&mut responses).await, Some(Err(Code::Cancelled)));
    ended.await.unwrap_err();
    // The responses are dropped.
    let (command, ended) = endless();
    let (_requests, responses) = open(ALL, command);
    drop(responses);
    ended.await.unwrap_err();
    // The call is broken off, though the command takes no more and more is to come.
    let (command, ended) = endless();
    let calls = Calls::default();
    let (requests, mut responses) = open_of(&calls, ALL, command);
    for _ in 0..3 {
        ask(&requests, Asked::Stdin(vec![0; WAITING].into())).await;
    }
    calls.break_off(1);
    ended.await.unwrap_err();
    requests.closed().await;
    assert_eq!(next(&mut responses).await, Some(Err(Code::Cancelled)));
}

#[tokio::test]
async fn who_does_not_read_holds_back_who_prints() {
    let (told, mut printed) = mpsc::channel(1_000);
    let (_requests, mut responses) = open(ALL, |mut streams| async move {
        for _ in 0..100 {
            streams.stdout.write_all(&[b'x'; CHUNK]).await.unwrap();
            told.send(()).await.unwrap();
        }
        0
    });
    for _ in 0..10_000 {
        tokio::task::yield_now().await;
    }
    let mut before = 0;
    while printed.try_recv().is_ok() {
        before += 1;
    }
    assert!(before < 5, "{before}");
    let (out, _, exit) = all(&mut responses).await;
    assert_eq!((out.len(), exit), (100 * CHUNK, Ok(0)));
}

#[tokio::test(start_paused = true)]
async fn a_terminal_edits_lines_and_shows_them() {
    let (requests, mut responses) = open(TTY, |mut streams| async move {
        let size = streams.terminal.unwrap().size;
        let all = read_all(streams.stdin.take()).await;
        let line = format!("{size:?} {}", String::from_utf8(all).unwrap());
        streams.stderr.write_all(line.as_bytes()).await.unwrap();
        0
    });
    let size = TerminalSize {
        width: 80,
        height: 24,
    };
    ask(&requests, Asked::Size(size)).await;
    type_in(&requests, b"ax\x7fb\r\x04").await;
    let ended = all(&mut responses).await;
    let shown = "ax\x08 \x08b\r\nSome((80, 24)) ab\r\n".to_owned();
    assert_eq!(ended, (shown, String::new(), Ok(0)));
}

#[tokio::test(start_paused = true)]
async fn a_terminal_interrupts() {
    let (command, ended) = endless();
    let (requests, mut responses) = open(TTY, command);
    // What comes first need not be its size.
    type_in(&requests, b"a").await;
    type_in(&requests, b"\x03").await;
    let interrupted = ("a^C".to_owned(), String::new(), Ok(INTERRUPTED));
    assert_eq!(all(&mut responses).await, interrupted);
    ended.await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn a_terminals_input_goes_on_after_its_end() {
    let (requests, mut responses) = open(TTY, |mut streams| async move {
        let mut source = runtime::Source::from(streams.stdin.take().unwrap());
        for _ in 0..3 {
            let mut all = Vec::new();
            source.read_to_end(&mut all).await.unwrap();
            streams.stderr.write_all(&all).await.unwrap();
            streams.stderr.write_all(b";").await.unwrap();
        }
        0
    });
    type_in(&requests, b"a\rb\x04\x04c\r\x04\x04").await;
    let shown = "a\r\nbc\r\na\r\nb;c\r\n;;".to_owned();
    assert_eq!(all(&mut responses).await, (shown, String::new(), Ok(0)));
}

#[tokio::test(start_paused = true)]
async fn a_terminal_interrupts_who_does_not_read() {
    let (command, ended) = endless();
    let (requests, mut responses) = open(TTY, command);
    let interrupt = async {
        for _ in 0..1_000 {
            type_in(
                &requests,
                b"what is typed and never read, again and again\r",
            )
            .await;
        }
        type_in(&requests, b"\x03").await;
    };
    let ((), (shown, _, exit)) = tokio::join!(interrupt, all(&mut responses));
    assert_eq!(exit, Ok(INTERRUPTED));
    assert!(shown.contains('\x07') && shown.ends_with("^C"), "{shown}");
    ended.await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn a_terminal_that_says_nothing_is_not_waited_for() {
    let began = Instant::now();
    let (_requests, mut responses) = open(TTY, |streams| async move {
        i32::from(streams.terminal == Some(Terminal { size: None }))
    });
    assert_eq!(all(&mut responses).await.2, Ok(1));
    let waited = began.elapsed();
    assert!(waited >= PATIENCE && waited < 2 * PATIENCE, "{waited:?}");
}
