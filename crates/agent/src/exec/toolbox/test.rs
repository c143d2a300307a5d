//! `test` and `[`: one question, answered by the exit code.

use std::io;

use rustix::fs::FileType;

use super::super::view::{Info, View};
use super::{Answer, Call, Stop};

/// `test` without its brackets.
pub(super) async fn test(call: &mut Call) -> Answer {
    let args = std::mem::take(&mut call.args);
    judge(call, &args).await
}

/// `[`, which ends by `]`.
pub(super) async fn bracket(call: &mut Call) -> Answer {
    let mut args = std::mem::take(&mut call.args);
    if args.pop().as_deref() != Some("]") {
        return Err(wrong("missing ]"));
    }
    judge(call, &args).await
}

async fn judge(call: &Call, args: &[String]) -> Answer {
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let (negated, question) = parse(&words)?;
    let answer = match question {
        Question::Known(answer) => answer,
        Question::File(option, path) => {
            let asked = call.files(move |view| Ok(look(view, option, &path)));
            let answer = asked.await.map_err(|e| wrong(&e.to_string()))?;
            // What cannot be looked at is not there.
            answer.unwrap_or(false)
        }
    };
    Ok(i32::from(answer == negated))
}

fn wrong(why: &str) -> Stop {
    Stop::Failed(2, why.to_owned())
}

#[derive(Debug)]
enum Question {
    Known(bool),
    /// An option such as `-d`, and a path.
    File(char, String),
}

/// As POSIX has it, by the number of words; the answer may be meant the other way round.
fn parse(words: &[&str]) -> Result<(bool, Question), Stop> {
    let known = |answer| Ok((false, Question::Known(answer)));
    match words {
        [] => known(false),
        [word] => known(!word.is_empty()),
        ["!", word] => known(word.is_empty()),
        [option, operand] => Ok((false, unary(option, operand)?)),
        [left, operator, right] if is_binary(operator) => known(binary(left, operator, right)?),
        ["!", rest @ ..] if rest.len() <= 3 => {
            let (negated, question) = parse(rest)?;
            Ok((!negated, question))
        }
        [_, "-a" | "-o", ..] | [_, _, "-a" | "-o", ..] | [_, _, _, "-a" | "-o", ..] => {
            Err(wrong("-a and -o are not supported: use && and ||"))
        }
        [_, operator, _] => Err(wrong(&format!("{operator}: unknown operand"))),
        _ => Err(wrong("too many arguments")),
    }
}

fn unary(option: &str, operand: &str) -> Result<Question, Stop> {
    let mut letters = option.chars();
    match (letters.next(), letters.next(), letters.next()) {
        (Some('-'), Some('n'), None) => Ok(Question::Known(!operand.is_empty())),
        (Some('-'), Some('z'), None) => Ok(Question::Known(operand.is_empty())),
        (Some('-'), Some(letter), None) if "defhLrswx".contains(letter) => {
            Ok(Question::File(letter, operand.to_owned()))
        }
        _ => Err(wrong(&format!("{option}: unknown operand"))),
    }
}

fn is_binary(operator: &str) -> bool {
    matches!(
        operator,
        "=" | "==" | "!=" | "-eq" | "-ne" | "-lt" | "-le" | "-gt" | "-ge"
    )
}

fn binary(left: &str, operator: &str, right: &str) -> Result<bool, Stop> {
    match operator {
        "=" | "==" => return Ok(left == right),
        "!=" => return Ok(left != right),
        _ => {}
    }
    let number = |word: &str| {
        let number = word.trim().parse::<i64>();
        number.map_err(|_| wrong(&format!("{word}: bad number")))
    };
    let order = number(left)?.cmp(&number(right)?);
    Ok(match operator {
        "-eq" => order.is_eq(),
        "-ne" => order.is_ne(),
        "-lt" => order.is_lt(),
        "-le" => order.is_le(),
        "-gt" => order.is_gt(),
        _ => order.is_ge(),
    })
}

fn look(view: &View, option: char, path: &str) -> io::Result<bool> {
    let info: Info = view.info(path, !matches!(option, 'h' | 'L'))?;
    Ok(match option {
        'd' => info.is_dir(),
        'f' => info.kind == FileType::RegularFile,
        'h' | 'L' => info.kind == FileType::Symlink,
        's' => info.size > 0,
        'w' => info.writable,
        'x' => info.mode & 0o111 != 0,
        // `-e`, and `-r`: whoever sees a file may read it.
        _ => true,
    })
}
