pub mod plan;
pub mod state;
