//! Which chunks have room for another row.

/// One bit per chunk; finding the first takes a step per 262,144 rows.
#[derive(Clone, Debug, Default)]
pub(super) struct Room {
    words: Vec<u64>,
}

impl Room {
    pub(super) fn set(&mut self, chunk: usize, has_room: bool) {
        let (word, bit) = (chunk / 64, 1_u64 << (chunk % 64));
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        if let Some(word) = self.words.get_mut(word) {
            *word = if has_room { *word | bit } else { *word & !bit };
        }
    }

    pub(super) fn first(&self) -> Option<usize> {
        let word = self.words.iter().position(|word| *word != 0)?;
        Some(word * 64 + self.words.get(word)?.trailing_zeros() as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_chunk_with_room_is_found() {
        let mut room = Room::default();
        assert_eq!(room.first(), None);
        [3, 70, 200].into_iter().for_each(|chunk| room.set(chunk, true));
        assert_eq!(room.first(), Some(3));
        room.set(3, false);
        assert_eq!(room.first(), Some(70));
    }
}
