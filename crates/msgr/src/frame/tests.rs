#![allow(clippy::arithmetic_side_effects, reason = "the lint knows tests, and not those inside a macro")]

use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::*;

fn decoder() -> FrameDecoder {
    let limits = Limits { control_bytes_max: 1000, message_bytes_max: 5000, ..Limits::default() };
    let mut decoder = FrameDecoder::new(limits);
    decoder.allow_messages();
    decoder
}

fn message(lens: [usize; 4]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let segments = lens.map(|len| Bytes::from((0..=u8::MAX).cycle().take(len).collect::<Vec<_>>()));
    encode_frame(Tag::Message, segments, |part| bytes.extend_from_slice(&part));
    bytes
}

fn decode(bytes: &[u8]) -> Result<Option<Frame>, Error> {
    decoder().decode(&mut BytesMut::from(bytes))
}

/// Changes the preamble and makes its checksum right again.
fn with_preamble(bytes: &[u8], change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    change(&mut bytes[..28]);
    let crc = crc32c(PREAMBLE_SEED, &bytes[..28]);
    bytes[28..32].copy_from_slice(&crc.to_le_bytes());
    bytes
}

#[test]
fn an_empty_middle_before_data_keeps_its_slot() {
    let bytes = message([41, 10, 0, 20]);
    assert_eq!(bytes[1], 4);
    assert_eq!(bytes.len(), 32 + 41 + 4 + 10 + 20 + 13);
    let epilogue = &bytes[bytes.len() - 13..];
    assert_eq!(&epilogue[5..9], &[0xff; 4], "the checksum of nothing is the register as it started");
    let frame = decode(&bytes).unwrap().unwrap();
    assert_eq!(frame.segments.map(|segment| segment.len()), [41, 10, 0, 20]);
}

#[test]
fn an_empty_control_frame_is_a_preamble_alone() {
    let wait = encode_control(Tag::Wait, |_| {});
    assert_eq!(wait.len(), 32);
    assert_eq!(decode(&wait).unwrap().unwrap().tag, Tag::Wait);
}

#[test]
fn a_frame_that_its_sender_gave_up_is_passed_over() {
    let mut bytes = message([41, 10, 0, 0]);
    let status = bytes.len() - 13;
    bytes[status] = STATUS_ABORTED;
    // What is aborted carries no valid checksums.
    bytes[40] ^= 1;
    bytes.extend(message([41, 3, 0, 0]));
    assert_eq!(decode(&bytes).unwrap().unwrap().segments[1].len(), 3);
}

#[test]
fn the_upper_half_of_the_status_is_ignored_and_the_lower_is_not() {
    let mut bytes = message([41, 10, 0, 0]);
    let status = bytes.len() - 13;
    bytes[status] = 0xfe;
    assert!(decode(&bytes).unwrap().is_some());
    bytes[status] = 0x07;
    assert!(matches!(decode(&bytes), Err(Error::Preamble(_))));
}

#[test]
fn preambles_that_nobody_sends_are_refused() {
    let bytes = message([41, 10, 0, 0]);
    let refuse = |change: fn(&mut [u8])| decode(&with_preamble(&bytes, change)).unwrap_err();
    assert_eq!(refuse(|p| p[0] = 0), Error::UnknownTag(0));
    assert_eq!(refuse(|p| p[0] = 21), Error::UnknownTag(21));
    assert!(matches!(refuse(|p| p[1] = 0), Error::Preamble(_)));
    assert!(matches!(refuse(|p| p[1] = 5), Error::Preamble(_)));
    assert!(matches!(refuse(|p| p[1] = 3), Error::Preamble(_)), "an empty last segment");
    assert!(matches!(refuse(|p| p[1] = 1), Error::Preamble(_)), "a segment beyond the last");
    assert!(matches!(refuse(|p| p[26] = 1), Error::Preamble(_)), "compression");
    assert!(matches!(refuse(|p| p[0] = 20), Error::Preamble(_)), "an ACK with two segments");
    let mut broken = bytes.clone();
    broken[5] ^= 1;
    assert_eq!(decode(&broken), Err(Error::Checksum(Part::Preamble)));
}

#[test]
fn a_length_bomb_is_refused_before_anything_is_reserved() {
    let bomb = with_preamble(&message([41, 10, 0, 0]), |p| p[8..12].copy_from_slice(&[0xff; 4]));
    let mut decoder = decoder();
    let refused = decoder.decode(&mut BytesMut::from(&bomb[..32]));
    assert!(matches!(refused, Err(Error::TooLarge { max: 5000, .. })));
    assert_eq!(decoder.wanted(), 32);
    let long = encode_control(Tag::AuthDone, |w| w.zeros(1001));
    assert_eq!(decode(&long), Err(Error::TooLarge { bytes: 1001, max: 1000 }));
}

#[test]
fn a_message_is_refused_at_its_preamble_until_the_session_is_open() {
    let mut decoder = FrameDecoder::new(Limits::default());
    let refused = decoder.decode(&mut BytesMut::from(&message([41, 10, 0, 0])[..32]));
    assert!(matches!(refused, Err(Error::Unexpected { got: "MESSAGE", .. })));
}

#[test]
fn large_segments_are_handed_on_without_a_copy_and_small_frames_are_one_part() {
    let front = Bytes::from(vec![1; 1 << 20]);
    let mut parts = Vec::new();
    let segments = [Bytes::from(vec![0; 41]), front.clone(), Bytes::new(), Bytes::from_static(b"data")];
    encode_frame(Tag::Message, segments, |part| parts.push(part));
    assert_eq!(parts.len(), 3);
    assert_eq!(parts[1].as_ptr(), front.as_ptr());
    let mut parts = 0;
    encode_frame(Tag::Message, [41, 100, 0, 0].map(|len| Bytes::from(vec![0; len])), |_| parts += 1);
    assert_eq!(parts, 1);
}

#[test]
fn payloads_share_the_memory_that_was_read_into() {
    let mut inbound = BytesMut::from(&message([41, 2000, 0, 0])[..]);
    let start = inbound.as_ptr().addr();
    let frame = decoder().decode(&mut inbound).unwrap().unwrap();
    assert_eq!(frame.segments[1].as_ptr().addr(), start + 32 + 41 + 4);
}

proptest! {
    #[test]
    fn what_is_written_is_read_again_however_it_is_cut(
        lens in prop::array::uniform4(0_usize..600),
        cut in 0_usize..3000,
    ) {
        let bytes = message([lens[0].max(1), lens[1], lens[2], lens[3]]);
        let cut = cut.min(bytes.len());
        let mut decoder = decoder();
        let mut inbound = BytesMut::from(&bytes[..cut]);
        let early = decoder.decode(&mut inbound).unwrap();
        if cut < bytes.len() {
            prop_assert!(early.is_none());
            prop_assert!(decoder.wanted() > inbound.len() && decoder.wanted() <= bytes.len());
            inbound.extend_from_slice(&bytes[cut..]);
        }
        let frame = early.or(decoder.decode(&mut inbound).unwrap()).unwrap();
        prop_assert!(inbound.is_empty());
        let again: Vec<usize> = frame.segments.iter().map(Bytes::len).collect();
        prop_assert_eq!(again, vec![lens[0].max(1), lens[1], lens[2], lens[3]]);
    }

    #[test]
    fn a_flipped_bit_is_found(lens in prop::array::uniform4(1_usize..60), bit in 0_usize..8000) {
        let mut bytes = message(lens);
        let bit = bit % (bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        // Only the reserved half of the status may change without anybody minding.
        let status = bytes.len() - 13;
        match decode(&bytes) {
            Ok(Some(_)) => prop_assert!(bit / 8 == status && bit % 8 >= 4),
            // The other half may turn "complete" into nothing else but an error, never into "aborted".
            Ok(None) => prop_assert!(false, "incomplete after flipping bit {bit}"),
            Err(_) => {}
        }
    }

    #[test]
    fn nothing_makes_the_decoder_panic_or_want_more_than_its_limit(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut decoder = decoder();
        let _ = decoder.decode(&mut BytesMut::from(&bytes[..]));
        prop_assert!(decoder.wanted() <= 32 + 5000 + 4 + 13);
    }
}
