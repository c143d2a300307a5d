//! `ps`: what runs in the pod.

use std::time::Duration;

use super::super::view::Process;
use super::{Answer, Call, failed, shown};

/// Characters of a command line that are shown.
const LONGEST: usize = 4_096;

/// Everything is always shown, by the numbers 1 and on: guests have no process numbers of their own.
pub(super) async fn ps(call: &mut Call) -> Answer {
    let mut full = false;
    for arg in &call.args {
        // BSD's words for all processes have no `-`.
        for letter in arg.strip_prefix('-').unwrap_or(arg).chars() {
            match letter {
                'A' | 'a' | 'e' | 'w' | 'x' => {}
                'f' | 'u' => full = true,
                _ => return Err(failed(format!("unrecognized option: {arg}"))),
            }
        }
    }
    let rows = call.view.processes.iter().enumerate();
    let mut table = vec![header(full)];
    table.extend(rows.map(|(at, process)| row(at + 1, process, full)));
    call.print(aligned(&table)).await?;
    Ok(0)
}

fn header(full: bool) -> Vec<String> {
    let names: &[&str] = match full {
        true => &["PID", "CONTAINER", "STARTED", "MEMORY", "TIME", "COMMAND"],
        false => &["PID", "CONTAINER", "TIME", "COMMAND"],
    };
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn row(number: usize, process: &Process, full: bool) -> Vec<String> {
    let mut row = vec![number.to_string(), process.container.clone()];
    if full {
        row.push(process.started.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
        row.push(format!("{}K", process.usage.memory.div_ceil(1024)));
    }
    row.push(time(process.usage.cpu));
    let command = shown(&process.argv.join(" "));
    row.push(command.chars().take(LONGEST).collect());
    row
}

/// Time on the CPU, as minutes and seconds.
fn time(cpu: Duration) -> String {
    let seconds = cpu.as_secs();
    format!(
        "{}:{:02}.{:02}",
        seconds / 60,
        seconds % 60,
        cpu.subsec_millis() / 10
    )
}

fn aligned(table: &[Vec<String>]) -> String {
    let columns = table.first().map_or(0, Vec::len);
    let width = |column: usize| table.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in table {
        for (cell, width) in row.iter().zip(&widths).take(columns - 1) {
            text += &format!("{cell:<width$}  ");
        }
        text += row.last().map_or("", String::as_str);
        text.push('\n');
    }
    text
}
