//! Majorities.

/// Returns how many of `voters` make a majority.
pub fn quorum(voters: usize) -> usize {
    voters / 2 + 1
}

/// Returns how many of `voters` may fail.
pub fn tolerates(voters: usize) -> usize {
    voters.saturating_sub(quorum(voters))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_majority_is_more_than_half() {
        let table = [(1, 1, 0), (2, 2, 0), (3, 2, 1), (4, 3, 1), (5, 3, 2), (9, 5, 4)];
        for (voters, needed, spare) in table {
            assert_eq!((quorum(voters), tolerates(voters)), (needed, spare), "{voters} voters");
        }
    }
}
