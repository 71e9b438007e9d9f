//! Which of several processes that mpirun started this is.

use std::path::PathBuf;

/// Which of the processes one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) rank: usize,
    pub(crate) count: usize,
    /// Which of those on its machine, and how many these are.
    pub(crate) on_host: [usize; 2],
}

impl Place {
    pub(crate) fn on_one_host(rank: usize, count: usize) -> Self {
        Self {
            rank,
            count,
            on_host: [rank, count],
        }
    }
}

/// What mpirun says of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) place: Place,
    /// A folder of this run's, on this machine.
    pub(crate) folder: Option<PathBuf>,
}

impl Process {
    /// What Open MPI says, or MPICH, which tells of no folder; `None` where neither started this process, or no other
    /// beside it.
    pub(crate) fn new(get: impl Fn(&str) -> Option<PathBuf>) -> Option<Self> {
        let number = |names: [&str; 2]| {
            let text = names.into_iter().find_map(&get)?;
            text.to_str()?.parse().ok()
        };
        let place = Place {
            rank: number(["OMPI_COMM_WORLD_RANK", "PMI_RANK"])?,
            count: number(["OMPI_COMM_WORLD_SIZE", "PMI_SIZE"]).filter(|&count| count > 1)?,
            on_host: [
                number(["OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID"])?,
                number(["OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS"])?,
            ],
        };
        // Each process has a place in the run's folder.
        let folder = get("OMPI_FILE_LOCATION").and_then(|own| Some(own.parent()?.to_path_buf()));
        Some(Self { place, folder })
    }
}

#[cfg(test)]
mod tests {
    use super::{Place, Process};

    fn process(variables: &[(&str, &str)]) -> Option<Process> {
        Process::new(|name| {
            let known = variables.iter().find(|(key, _)| *key == name);
            known.map(|(_, value)| value.into())
        })
    }

    #[test]
    fn both_kinds_of_mpirun_say_which_process_one_is() {
        let open = [
            ("OMPI_COMM_WORLD_RANK", "2"),
            ("OMPI_COMM_WORLD_SIZE", "4"),
            ("OMPI_COMM_WORLD_LOCAL_RANK", "0"),
            ("OMPI_COMM_WORLD_LOCAL_SIZE", "2"),
            ("OMPI_FILE_LOCATION", "/run/job/2"),
        ];
        let place = Place {
            rank: 2,
            count: 4,
            on_host: [0, 2],
        };
        let folder = Some("/run/job".into());
        assert_eq!(process(&open), Some(Process { place, folder }));
        let mpich = [
            ("PMI_RANK", "2"),
            ("PMI_SIZE", "4"),
            ("MPI_LOCALRANKID", "0"),
            ("MPI_LOCALNRANKS", "2"),
        ];
        let folder = None;
        assert_eq!(process(&mpich), Some(Process { place, folder }));
    }

    #[test]
    fn a_process_by_itself_is_none_of_several() {
        assert_eq!(process(&[]), None);
        let alone = [
            ("PMI_RANK", "0"),
            ("PMI_SIZE", "1"),
            ("MPI_LOCALRANKID", "0"),
            ("MPI_LOCALNRANKS", "1"),
        ];
        assert_eq!(process(&alone), None);
    }
}
