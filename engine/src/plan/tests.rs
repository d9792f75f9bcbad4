//! The planner against what its documentation promises.
