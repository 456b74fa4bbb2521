//! The BGP codec against itself and against others.

mod differential;
mod fuzz;
mod round_trip;
mod strategies;
mod vectors;
