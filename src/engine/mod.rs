//! Requests in, events out: schedules sequences on the one thread that computes. Knows no MLX.

pub mod request;
pub mod stepper;
