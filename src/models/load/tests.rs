//! What a loader says of kernels.

use std::cell::Cell;
use std::path::Path;
use std::sync::Mutex;

use super::{Loader, Precision};
use crate::error::Error;
use crate::progress::Progress;
use crate::weights::Weights;

#[derive(Default)]
struct Notices(Mutex<Vec<String>>);

impl Progress for Notices {
    fn notice(&self, text: &str) {
        self.0.lock().unwrap().push(text.to_owned());
    }
}

#[test]
fn a_kernel_that_does_not_work_is_told_of_once_and_tried_once() {
    let (notices, weights) = (Notices::default(), Weights::random(None));
    let mut loader = Loader::new(
        &weights,
        Path::new("config.json"),
        None,
        Precision::Stored,
        &notices,
    );
    loader.gpu_kernels = true;
    let tried = Cell::new(0);
    for _ in 0..3 {
        let works = loader.has_kernel("some layers", || {
            tried.set(tried.get() + 1);
            Err(Error::Mlx("no compiler".to_owned()))
        });
        assert!(!works);
    }
    assert!(loader.has_kernel("other layers", || Ok(())));
    assert_eq!(tried.get(), 1);
    let notices = notices.0.lock().unwrap();
    let [notice] = notices.as_slice() else {
        panic!("{notices:?}");
    };
    assert!(notice.contains("some layers") && notice.contains("no compiler"));
}

#[test]
fn no_kernel_is_tried_where_the_device_takes_none() {
    let (notices, weights) = (Notices::default(), Weights::random(None));
    let loader = Loader::new(
        &weights,
        Path::new("config.json"),
        None,
        Precision::Stored,
        &notices,
    );
    assert!(!loader.has_kernel("some layers", || panic!("it was tried")));
    assert!(notices.0.lock().unwrap().is_empty());
}
