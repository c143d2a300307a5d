//! Gets the URLs in its arguments, and prints what they answer.

#[path = "../fetch.rs"]
mod fetch;

fn main() {
    for url in std::env::args().skip(1) {
        match fetch::fetch(&url) {
            Ok((status, body)) => println!("{status} {}", String::from_utf8_lossy(&body)),
            Err(code) => println!("{code}"),
        }
    }
}
