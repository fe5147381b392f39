//! What a guest shows over the network.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const ANSWER: Duration = Duration::from_secs(5);

/// One HTTP request; the body of a 200 answer.
pub(crate) fn http(address: SocketAddr, path: &str, body: Option<&str>) -> Result<String, String> {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&address, ANSWER)?;
        stream.set_read_timeout(Some(ANSWER))?;
        let method = if body.is_some() { "POST" } else { "GET" };
        let body = body.unwrap_or_default();
        write!(stream, "{method} {path} HTTP/1.0\r\nContent-Length: {}\r\n\r\n{body}", body.len())?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    let answer = ask().map_err(|error| format!("{address}{path}: {error}"))?;
    // A page made by a script has line ends of its own.
    match answer.split_once("\r\n\r\n").or_else(|| answer.split_once("\n\n")) {
        Some((head, body)) if head.contains(" 200 ") => Ok(body.to_owned()),
        _ => Err(format!("{address}{path}: {answer:?}")),
    }
}

/// The guest's page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) hostname: String,
    pub(crate) boot_id: String,
}

/// Reads the page of the guest at an address.
pub(crate) fn page(address: SocketAddr) -> Result<Page, String> {
    let text = http(address, "/", None)?;
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("<p>{name}: ")));
        line.map(str::to_owned).ok_or_else(|| format!("no {name} in {text:?}"))
    };
    Ok(Page { hostname: field("hostname")?, boot_id: field("boot id")? })
}
