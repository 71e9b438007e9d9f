//! The way from the first of several processes to the others: what it tells goes over a socket to each. Who waits for
//! it sleeps, however long that lasts.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::schedule::fresh_seed;
use super::together::Peers;
use crate::error::{Error, Result};

/// How long one that has connected may take to say who it is.
const PATIENCE: Duration = Duration::from_secs(10);

/// The longest that is told, in bytes.
const LONGEST: u32 = 1 << 30;

/// Sockets between the first process and all others.
#[derive(Debug)]
pub struct Sockets {
    rank: usize,
    /// The first one's to all others, or another one's to the first.
    streams: Mutex<Vec<TcpStream>>,
}

impl Sockets {
    /// Waits until the first of `size` processes and all others have met, of which this is number `rank`. The first one
    /// listens at its address in the file `hosts`, which MLX's ring reads too: of each process a list of addresses.
    /// `sum` gives the sums of what all processes give.
    ///
    /// # Errors
    /// [`Error::Io`] where the file cannot be read, and [`Error::Apart`] where there is no such address or they do not
    /// reach each other.
    pub fn join(
        rank: usize,
        size: usize,
        hosts: &Path,
        sum: impl Fn(&[i32]) -> Result<Vec<i32>>,
    ) -> Result<Self> {
        let host = first_host(hosts)?;
        let listener = if rank == 0 {
            Some(TcpListener::bind((host, 0)).map_err(apart)?)
        } else {
            None
        };
        // The first one's port, and what shows that who connects was told of it.
        let mut told = [0; 3];
        if let Some(listener) = &listener {
            let seed = fresh_seed();
            let port = listener.local_addr().map_err(apart)?.port();
            told = [port.into(), seed as i32, (seed >> 32) as i32];
        }
        let told = sum(&told)?;
        let &[port, low, high] = told.as_slice() else {
            return Err(Error::Apart("they do not understand each other".to_owned()));
        };
        let key = [low.to_le_bytes(), high.to_le_bytes()].concat();
        let streams = match listener {
            Some(listener) => met(&listener, size - 1, &key),
            None => connected((host, port as u16).into(), &key),
        };
        Ok(Self {
            rank,
            streams: Mutex::new(streams.map_err(apart)?),
        })
    }
}

impl Peers for Sockets {
    fn rank(&self) -> usize {
        self.rank
    }

    fn share(&self, bytes: Vec<u8>) -> Result<Vec<u8>> {
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        if self.rank > 0 {
            return streams
                .first_mut()
                .map_or(Ok(Vec::new()), hear)
                .map_err(apart);
        }
        let length = u32::try_from(bytes.len()).ok();
        let length = length.filter(|&length| length <= LONGEST);
        let length = length.ok_or_else(|| apart("what is told is too long"))?;
        let message = [&length.to_le_bytes()[..], &bytes].concat();
        for stream in &mut *streams {
            stream.write_all(&message).map_err(apart)?;
        }
        Ok(bytes)
    }
}

fn hear(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length);
    if length > LONGEST {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = vec![0; length as usize];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// The first one's side: as many as are expected, who know the key.
fn met(listener: &TcpListener, others: usize, key: &[u8]) -> io::Result<Vec<TcpStream>> {
    let mut streams = Vec::new();
    while streams.len() < others {
        let (mut stream, _) = listener.accept()?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut said = vec![0; key.len()];
        // Whoever else it is that connected is let go.
        if stream.read_exact(&mut said).is_ok() && said == key {
            stream.set_nodelay(true)?;
            streams.push(stream);
        }
    }
    Ok(streams)
}

/// Another one's side.
fn connected(first: SocketAddr, key: &[u8]) -> io::Result<Vec<TcpStream>> {
    let mut stream = TcpStream::connect(first)?;
    stream.write_all(key)?;
    Ok(vec![stream])
}

/// Where the first of the processes is.
fn first_host(hosts: &Path) -> Result<IpAddr> {
    let text = fs::read_to_string(hosts).map_err(Error::io("read", hosts))?;
    let all: Vec<Vec<String>> = serde_json::from_str(&text).unwrap_or_default();
    let first = all.first().and_then(|addresses| addresses.first());
    let address = first.and_then(|address| address.parse::<SocketAddr>().ok());
    address.map(|address| address.ip()).ok_or_else(|| {
        Error::Apart(format!(
            "{} does not begin with a list of addresses such as [\"127.0.0.1:5000\"]",
            hosts.display()
        ))
    })
}

fn apart(error: impl std::fmt::Display) -> Error {
    Error::Apart(error.to_string())
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::thread;

    use super::*;

    /// Sums of what three threads give.
    struct Sums(Barrier, Mutex<Vec<i32>>);

    impl Sums {
        fn sum(&self, own: &[i32]) -> Vec<i32> {
            let mut sums = self.1.lock().unwrap();
            sums.resize(own.len(), 0);
            for (sum, own) in sums.iter_mut().zip(own) {
                *sum += own;
            }
            drop(sums);
            self.0.wait();
            self.1.lock().unwrap().clone()
        }
    }

    #[test]
    fn what_the_first_tells_all_hear() {
        let hosts = tempfile::NamedTempFile::new().unwrap();
        fs::write(hosts.path(), r#"[["127.0.0.1:1"], ["127.0.0.1:2"]]"#).unwrap();
        let sums = Sums(Barrier::new(3), Mutex::default());
        let told: Vec<u8> = (0..1_000_000).map(|i| i as u8).collect();
        thread::scope(|scope| {
            for rank in 0..3 {
                let (sums, hosts, told) = (&sums, hosts.path(), &told);
                scope.spawn(move || {
                    let sockets = Sockets::join(rank, 3, hosts, |own| Ok(sums.sum(own))).unwrap();
                    for length in [0, 1, told.len()] {
                        let own = if rank == 0 { &told[..length] } else { b"x" };
                        assert_eq!(sockets.share(own.to_vec()).unwrap(), told[..length]);
                    }
                    drop(sockets);
                });
            }
        });
    }

    #[test]
    fn a_file_without_addresses_is_refused() {
        let hosts = tempfile::NamedTempFile::new().unwrap();
        for text in ["", "[]", "[[]]", "[[\"here\"]]", "{\"a\": 1}"] {
            fs::write(hosts.path(), text).unwrap();
            let refused = Sockets::join(0, 2, hosts.path(), |own| Ok(own.to_vec()));
            assert!(matches!(refused, Err(Error::Apart(_))), "{text}");
        }
    }
}
