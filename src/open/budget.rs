//! How much of a device's memory a model may take.

use crate::error::Result;
use crate::memory::Machine;
use crate::mlx::{self, Device};

/// Other models that take of the same memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sharing {
    /// Bytes that those may take that are there.
    pub taken: usize,
    /// How many are still to come: what the weights of this one leave is divided among it and them.
    pub coming: usize,
}

impl Sharing {
    /// Bytes that there are for the model itself: of `memory`, or where nobody says how much, of three quarters of
    /// what the device has, and no more than it could give now.
    ///
    /// # Errors
    /// What MLX says.
    pub fn room(self, memory: Option<usize>, device: Device) -> Result<usize> {
        if let Some(memory) = memory {
            return Ok(memory.saturating_sub(self.taken));
        }
        let (total, available) = match device {
            Device::Cpu => {
                let machine = Machine::now();
                (machine.total, machine.available)
            }
            Device::Gpu => {
                let total = mlx::memory::of_device()?;
                (total, total)
            }
        };
        let most = (total / 4 * 3).saturating_sub(self.taken);
        Ok(most.min(available))
    }

    /// Of that `room`, bytes that a model with these `weights` may take: they themselves, and its part of the rest.
    pub(super) fn part(self, room: usize, weights: usize) -> usize {
        weights + self.divide(room.saturating_sub(weights))
    }

    /// Memory of the host for what leaves a GPU: half of what could be had now, and no more than the GPU's own
    /// `memory` for the model. None where the GPU computes in the host's memory: nothing would be won.
    pub(super) fn offload(self, memory: usize) -> Result<usize> {
        if mlx::memory::is_shared()? {
            return Ok(0);
        }
        Ok(self.divide(Machine::now().available / 2).min(memory))
    }

    fn divide(self, bytes: usize) -> usize {
        bytes / self.coming.saturating_add(1)
    }
}

#[cfg(test)]
mod tests {
    use super::Sharing;
    use crate::mlx::Device;

    #[test]
    fn every_model_has_room_for_its_weights_and_an_equal_part_of_the_rest() {
        let all = [600, 100, 50];
        let (mut taken, mut rests) = (0, Vec::new());
        for (before, weights) in all.into_iter().enumerate() {
            let coming = all.len() - before - 1;
            let sharing = Sharing { taken, coming };
            let room = sharing.room(Some(1050), Device::Cpu).unwrap();
            let part = sharing.part(room, weights);
            taken += part;
            rests.push(part - weights);
        }
        // The first cannot know what weights will come.
        assert_eq!(rests, [150, 100, 50]);
        assert_eq!(taken, 1050);
    }

    #[test]
    fn nothing_is_left_where_others_have_all() {
        let sharing = Sharing {
            taken: 2000,
            coming: 0,
        };
        assert_eq!(sharing.room(Some(1000), Device::Cpu).unwrap(), 0);
        let all = Sharing {
            taken: usize::MAX,
            coming: 0,
        };
        assert_eq!(all.room(None, Device::Cpu).unwrap(), 0);
        let none = Sharing::default().room(None, Device::Cpu).unwrap();
        assert!(none > 0);
    }
}
