//! Keys and values that a kernel writes where they lie, behind MLX's back: see `ops::decode`.

use std::rc::Rc;

use super::{Buffers, KvCache};
use crate::cache::{Layer, SequenceCache};
use crate::error::Result;
use crate::mlx::{Array, Dtype, addresses, async_eval, ops};

/// Where the buffers of a sequence lie.
#[derive(Debug)]
pub struct Place {
    /// Addresses of keys and values of each layer, int64 `[1, layers, 2]`.
    addresses: Array,
    /// Capacity of each layer's buffers, and the position of their first row.
    rows: Vec<[i32; 2]>,
}

/// Where the buffers of several sequences lie, one table for all.
#[derive(Debug)]
pub struct Places {
    of: Vec<Rc<Place>>,
    /// int64 `[B, layers, 2]`.
    pub addresses: Array,
    /// int32 `[B, layers, 2]`.
    pub rows: Array,
}

impl Places {
    /// Those of `of`; where these are as they were, so is the table.
    ///
    /// # Errors
    /// What MLX says.
    pub fn new(of: Vec<Rc<Place>>, last: Option<Self>) -> Result<Self> {
        if let Some(last) = last
            && last.of.len() == of.len()
            && last.of.iter().zip(&of).all(|(a, b)| Rc::ptr_eq(a, b))
        {
            return Ok(last);
        }
        let rows: Vec<i32> = of
            .iter()
            .flat_map(|place| place.rows.as_flattened())
            .copied()
            .collect();
        let layers = of.first().map_or(0, |place| place.rows.len());
        let shape = [of.len() as i32, layers as i32, 2];
        let addresses = match of.as_slice() {
            [one] => one.addresses.clone(),
            several => {
                let all: Vec<&Array> = several.iter().map(|place| &place.addresses).collect();
                ops::concatenate(&all, 0)?
            }
        };
        Ok(Self {
            of,
            addresses,
            rows: Array::from_slice(&rows, &shape),
        })
    }
}

impl SequenceCache {
    /// Room for one more row in every layer, and where; `None` where the next row is to be appended by MLX: nothing
    /// is held, a copy may share the buffers, or numbers have another type.
    ///
    /// # Errors
    /// What MLX says.
    pub fn reserve(&mut self, numbers: Dtype) -> Result<Option<Rc<Place>>> {
        if self.shared {
            return Ok(None);
        }
        let mut grown = Vec::new();
        for layer in &mut self.layers {
            match layer {
                Layer::Keys(cache) if cache.is_in_place() => grown.extend(cache.reserve()?),
                Layer::Keys(_) | Layer::State(_) => return Ok(None),
            }
        }
        if !grown.is_empty() {
            self.place = None;
            async_eval(grown.iter().flatten())?;
        }
        if self.place.is_none() {
            let buffers: Vec<&Array> = self.arrays().collect();
            if buffers.iter().any(|buffer| buffer.dtype() != numbers) {
                return Ok(None);
            }
            let rows = self.layers.iter().filter_map(|layer| match layer {
                Layer::Keys(cache) => Some([cache.capacity(), cache.start]),
                Layer::State(_) => None,
            });
            let table = [1, self.layers.len() as i32, 2];
            let place = Place {
                addresses: addresses(&buffers)?.reshape(&table)?,
                rows: rows.collect(),
            };
            self.place = Some(Rc::new(place));
        }
        Ok(self.place.clone())
    }

    /// A kernel has written the row that there is room for.
    pub fn advance(&mut self) {
        for layer in &mut self.layers {
            if let Layer::Keys(cache) = layer {
                cache.length += 1;
            }
        }
    }
}

impl KvCache {
    /// Whether keys and values each have a buffer of the device.
    fn is_in_place(&self) -> bool {
        matches!(&self.buffers, Buffers::Device(_, Some(_)))
    }

    /// Rows of the buffers.
    fn capacity(&self) -> i32 {
        self.arrays().next().map_or(0, |buffer| buffer.shape()[2])
    }

    /// Room for one more row, as [`Self::append`] makes it; new buffers where it is made.
    fn reserve(&mut self) -> Result<Option<[Array; 2]>> {
        let start = self.start_with(1);
        if start == self.start && self.length + 1 - start <= self.capacity() {
            return Ok(None);
        }
        let Buffers::Device(keys, Some(values)) = std::mem::take(&mut self.buffers) else {
            return Ok(None);
        };
        let keys = self.grown(&keys, 1, start)?;
        let values = self.grown(&values, 1, start)?;
        self.start = start;
        self.buffers = Buffers::Device(keys.clone(), Some(values.clone()));
        Ok(Some([keys, values]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::LayerKind;
    use crate::mlx::{DeviceChoice, eval, open};

    fn rows(count: i32) -> Array {
        ops::ones::<f32>(&[count, 2, 4]).unwrap()
    }

    #[test]
    fn room_is_made_as_appending_makes_it() {
        open(DeviceChoice::Cpu, None).unwrap();
        for window in [None, Some(8), Some(300)] {
            let [mut appended, mut reserved] = [(); 2].map(|()| KvCache::new(window));
            for cache in [&mut appended, &mut reserved] {
                cache.append(&rows(500), Some(&rows(500))).unwrap();
            }
            for length in 500..1100 {
                let is_full = reserved.length - reserved.start == reserved.capacity();
                let grown = reserved.reserve().unwrap();
                assert_eq!(grown.is_some(), is_full, "{window:?} {length}");
                assert!(reserved.length + 1 - reserved.start <= reserved.capacity());
                appended.append(&rows(1), Some(&rows(1))).unwrap();
                if grown.is_some() {
                    eval(appended.arrays().chain(reserved.arrays())).unwrap();
                }
                reserved.length += 1;
                assert_eq!(reserved.length(), appended.length());
                assert_eq!(reserved.start, appended.start);
                assert_eq!(reserved.capacity(), appended.capacity());
            }
        }
    }

    #[test]
    fn what_a_copy_may_share_is_not_written_in_place() {
        open(DeviceChoice::Cpu, None).unwrap();
        let kind = LayerKind::Keys {
            window: None,
            bytes: 64,
        };
        let mut cache = SequenceCache::new([kind]);
        let is_refused = |cache: &mut SequenceCache| {
            cache
                .reserve(Dtype::Float32)
                .is_ok_and(|place| place.is_none())
        };
        assert!(is_refused(&mut cache), "nothing is held");
        let append = |cache: &mut SequenceCache| {
            cache.appended();
            let Layer::Keys(keys) = &mut cache.layers[0] else {
                panic!("the layer keeps keys");
            };
            keys.append(&rows(3), Some(&rows(3))).unwrap();
        };
        append(&mut cache);
        assert!(
            cache.reserve(Dtype::Bfloat16).unwrap().is_none(),
            "of another type"
        );
        cache.copy_rows(0..2).unwrap();
        assert!(is_refused(&mut cache), "a copy may share it");
        append(&mut cache);
        assert!(!is_refused(&mut cache), "what is appended to is its own");
        cache.offload_rows(0..2).unwrap();
        assert!(is_refused(&mut cache), "the host may have moved it");
        append(&mut cache);
        cache.rewind(4);
        cache.advance();
        assert_eq!(cache.length(), 5);
    }
}
