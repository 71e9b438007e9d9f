//! Processes that mpirun started: each learns from its environment which it is, and begins again as MLX's own launcher
//! would have started it.

use std::convert::Infallible;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};
use std::{fs, io};

use mlxr::{Error, Result};

use super::meeting::{Meeting, free};
use crate::settings::{Place, Process, Settings};

/// How long processes that are started together may be apart.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often one looks whether another has come.
const PAUSE: Duration = Duration::from_millis(5);

/// Begins again, with the same arguments and in the same process, as one that knows where the others are.
///
/// # Errors
/// Where there are not so many processes, they do not find each other, or the program cannot be started.
pub(super) fn begin_again(
    count: usize,
    process: &Process,
    settings: &Settings,
) -> Result<Infallible> {
    let place = process.place;
    if place.count != count {
        return Err(Error::Request {
            field: "--ranks",
            problem: format!("mpirun started {} processes: say so many", place.count),
        });
    }
    let folder = process.folder.as_deref();
    let folder = folder.filter(|folder| place.on_host[1] == count && folder.is_dir());
    let meeting = match (&settings.hosts, folder) {
        (Some(hosts), _) => Meeting::at(hosts, None),
        (None, Some(folder)) => meet(place, folder)?,
        (None, None) => {
            return Err(Error::Request {
                field: "MLX_HOSTFILE",
                problem: "it is to name a file with the addresses of all processes where mpirun's \
                          are on several machines, or it has no folder for them"
                    .to_owned(),
            });
        }
    };
    let program = Settings::program()?;
    let mut command = Command::new(&program);
    meeting.tell(&mut command, place, settings);
    let failed = command.args(Settings::arguments()).exec();
    Err(Error::io("start", program)(failed))
}

/// The first process leaves addresses in the folder that they share, until each other one has a copy: the next run may
/// have the same folder.
fn meet(place: Place, folder: &Path) -> Result<Meeting> {
    let shared = folder.join("mlxr");
    let own = |rank: usize| folder.join(format!("mlxr.{rank}"));
    let copy = own(place.rank);
    if place.rank > 0 {
        wait_until(|| shared.exists())?;
        let text = fs::read_to_string(&shared).map_err(Error::io("read", &shared))?;
        let (port, addresses) = text.split_once('\n').unwrap_or_default();
        write(&copy, addresses)?;
        return Ok(Meeting::at(&copy, port.parse().ok()));
    }
    let others = (1..place.count).map(own);
    for other in others.clone() {
        match fs::remove_file(&other) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Error::io("remove", other)(error));
            }
            Ok(()) | Err(_) => {}
        }
    }
    let (addresses, port) = free(place.count)?;
    write(&shared, &format!("{port}\n{addresses}"))?;
    wait_until(|| others.clone().all(|other| other.exists()))?;
    fs::remove_file(&shared).map_err(Error::io("remove", &shared))?;
    write(&copy, &addresses)?;
    Ok(Meeting::at(&copy, Some(port)))
}

/// Whoever finds the file, which one process alone writes, finds it whole.
fn write(path: &Path, text: &str) -> Result<()> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let written = fs::write(&partial, text).and_then(|()| fs::rename(&partial, path));
    written.map_err(Error::io("write", path))
}

fn wait_until(is_so: impl Fn() -> bool) -> Result<()> {
    let begin = Instant::now();
    while !is_so() {
        if begin.elapsed() > PATIENCE {
            let apart = "the processes that mpirun started did not all begin within a minute";
            return Err(Error::Apart(apart.to_owned()));
        }
        sleep(PAUSE);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_meet_in_one_folder_again_and_again() {
        let folder = tempfile::tempdir().unwrap();
        let meet_all = || {
            let threads: Vec<_> = (0..3)
                .map(|rank| {
                    let folder = folder.path().to_path_buf();
                    let place = Place::on_one_host(rank, 3);
                    std::thread::Builder::new()
                        .spawn(move || meet(place, &folder).unwrap())
                        .unwrap()
                })
                .collect();
            let met: Vec<(String, Option<u16>)> = threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .map(|met| (fs::read_to_string(met.hosts).unwrap(), met.port))
                .collect();
            assert!(met.iter().all(|said| *said == met[0]), "{met:?}");
            assert_eq!(met[0].0.matches("127.0.0.1:").count(), 3);
            met[0].clone()
        };
        assert_ne!(meet_all(), meet_all());
    }
}
