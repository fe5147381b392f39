//! Two ends of a TCP connection, each in a process of its own, so that each can be in a network namespace of its own.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::stats::quantile;

/// What the asking end wants; the first byte of a connection.
const ECHO: u8 = b'e';
const SINK: u8 = b's';
const FLOOD: u8 = b'f';

const WARM_UP: usize = 200;
const ROUND_TRIPS: usize = 3000;
const CONNECTIONS: usize = 200;
/// What one call reads or writes.
const CHUNK: usize = 128 << 10;
const PATIENCE: Duration = Duration::from_secs(60);

/// What the asking end found.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Wire {
    /// Bytes a second to the other end.
    pub(crate) to: f64,
    /// Bytes a second from it.
    pub(crate) from: f64,
    /// Seconds.
    pub(crate) round_trip: f64,
    pub(crate) round_trip_p99: f64,
}

/// What it found of a web server.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Web {
    /// Seconds until the server's kernel has taken a connection.
    pub(crate) connect: f64,
    pub(crate) connect_p99: f64,
    /// Bytes a second of an answer.
    pub(crate) rate: f64,
}

/// The answering end: serves until it is killed; says when it listens.
pub(crate) fn answer(address: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(address).with_context(|| format!("listen at {address}"))?;
    crate::say(&listener.local_addr()?.to_string());
    loop {
        let (stream, _) = listener.accept()?;
        std::thread::spawn(move || {
            // The other end goes when it has seen enough.
            let _ = serve(stream);
        });
    }
}

fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut byte = [0];
    stream.read_exact(&mut byte)?;
    let mut chunk = vec![0; CHUNK];
    match byte[0] {
        ECHO => loop {
            stream.read_exact(&mut byte)?;
            stream.write_all(&byte)?;
        },
        FLOOD => loop {
            stream.write_all(&chunk)?;
        },
        _ => while stream.read(&mut chunk)? > 0 {},
    }
    Ok(())
}

/// The asking end.
pub(crate) fn ask(address: SocketAddr, over: Duration) -> Result<Wire> {
    let mut stream = connect(address, ECHO)?;
    let mut trips = Vec::with_capacity(ROUND_TRIPS);
    let mut byte = [0];
    for trip in 0..WARM_UP + ROUND_TRIPS {
        let begin = Instant::now();
        stream.write_all(&byte)?;
        stream.read_exact(&mut byte)?;
        if trip >= WARM_UP {
            trips.push(begin.elapsed().as_secs_f64());
        }
    }

    let mut chunk = vec![0; CHUNK];
    let mut stream = connect(address, SINK)?;
    let (begin, mut sent) = (Instant::now(), 0);
    while begin.elapsed() < over {
        stream.write_all(&chunk)?;
        sent += CHUNK;
    }
    // What the other end has not read yet does not count as sent: it closes when it has read all.
    stream.shutdown(Shutdown::Write)?;
    while stream.read(&mut byte)? > 0 {}
    let to = per_second(sent, begin);

    let mut stream = connect(address, FLOOD)?;
    let (begin, mut got) = (Instant::now(), 0);
    while begin.elapsed() < over {
        let read = stream.read(&mut chunk)?;
        ensure!(read > 0, "{address} ended the connection");
        got += read;
    }
    let from = per_second(got, begin);
    Ok(Wire { to, from, round_trip: quantile(&trips, 0.5), round_trip_p99: quantile(&trips, 0.99) })
}

fn connect(address: SocketAddr, what: u8) -> Result<TcpStream> {
    let mut stream = open(address)?;
    stream.set_nodelay(true)?;
    stream.write_all(&[what])?;
    Ok(stream)
}

fn open(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE).with_context(|| format!("connect to {address}"))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// A web server's end that we did not write: how soon it takes connections, and how fast it sends a file.
pub(crate) fn fetch(address: SocketAddr, path: &str) -> Result<Web> {
    let mut connects = Vec::with_capacity(CONNECTIONS);
    for _ in 0..CONNECTIONS {
        let begin = Instant::now();
        drop(open(address)?);
        connects.push(begin.elapsed().as_secs_f64());
    }
    let mut stream = open(address)?;
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
    let mut chunk = vec![0; CHUNK];
    let (begin, mut got) = (Instant::now(), 0);
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => break,
            Ok(read) => got += read,
            Err(error) if error.kind() == ErrorKind::ConnectionReset && got > 0 => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Web { connect: quantile(&connects, 0.5), connect_p99: quantile(&connects, 0.99), rate: per_second(got, begin) })
}

#[allow(clippy::cast_precision_loss)]
fn per_second(bytes: usize, since: Instant) -> f64 {
    bytes as f64 / since.elapsed().as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_agree_on_rates_and_round_trips() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                std::thread::spawn(move || serve(stream.unwrap()));
            }
        });
        let wire = ask(address, Duration::from_millis(50)).unwrap();
        assert!(wire.to > 1e6 && wire.from > 1e6, "{wire:?}");
        assert!(wire.round_trip > 0.0 && wire.round_trip <= wire.round_trip_p99, "{wire:?}");
    }
}
