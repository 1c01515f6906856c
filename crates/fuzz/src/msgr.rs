use bytes::BytesMut;
use cuttlebone_msgr::{
    Banner, Control, FrameDecoder, Limits, MessageHeader, Tag, encode_control, encode_frame,
};
use cuttlebone_wire::{Decode, Encode, Features, Reader};

const MESSAGE_BYTES_MAX: usize = 65_536;

fn decoder() -> FrameDecoder {
    let limits =
        Limits { control_bytes_max: 4096, message_bytes_max: MESSAGE_BYTES_MAX, ..Limits::default() };
    let mut decoder = FrameDecoder::new(limits);
    decoder.allow_messages();
    decoder
}

/// A byte stream cut into frames, in one piece and in two.
pub(crate) fn frames(data: &[u8]) {
    let _ = Banner::take(&mut BytesMut::from(data));
    let whole = decode(&mut BytesMut::from(data));
    let (first, second) = data.split_at(data.len() / 2);
    let mut decoder = decoder();
    let mut inbound = BytesMut::from(first);
    let mut count = 0;
    let mut rest = Some(second);
    loop {
        match decoder.decode(&mut inbound) {
            Ok(Some(_)) => count += 1,
            Ok(None) => match rest.take() {
                Some(rest) => inbound.extend_from_slice(rest),
                None => break,
            },
            // The stream is of no use any more.
            Err(_) => break,
        }
    }
    assert_eq!(whole, count, "where a stream is cut must not matter");
}

/// Counts the frames, and checks that each is written as it was read.
fn decode(inbound: &mut BytesMut) -> usize {
    let mut decoder = decoder();
    let mut count = 0;
    while let Ok(Some(frame)) = decoder.decode(inbound) {
        count += 1;
        assert!(decoder.wanted() <= 32 + MESSAGE_BYTES_MAX + 17);
        let segments = frame.segments.clone();
        let mut again = BytesMut::new();
        encode_frame(frame.tag, segments.clone(), |part| again.extend_from_slice(&part));
        let back = self::decoder().decode(&mut again).expect("what we wrote reads").expect("whole");
        // The number of segments may shrink: a middle one that is last and empty is not sent.
        assert_eq!(back.segments, segments);
    }
    count
}

/// One control frame: a tag, then its payload.
pub(crate) fn control(data: &[u8]) {
    let Some((tag, payload)) = data.split_first() else { return };
    let Some((tag, _)) = Tag::ALL.get(usize::from(*tag)) else { return };
    let bytes = encode_control(*tag, |w| w.raw(payload));
    let mut decoder = decoder();
    let Ok(Some(frame)) = decoder.decode(&mut BytesMut::from(&bytes[..])) else { return };
    if *tag == Tag::Message {
        if let Ok(header) = MessageHeader::decode(&mut Reader::new(frame.payload())) {
            assert_eq!(header.to_bytes(Features::PACIFIC), frame.payload()[..MessageHeader::BYTES]);
        }
        return;
    }
    let again = match Control::read(&frame) {
        Ok(Control::Opening(opening)) => opening.to_bytes(),
        Ok(Control::Reply(reply)) => reply.to_bytes(),
        Ok(Control::Auth(auth)) => auth.to_bytes(),
        _ => return,
    };
    let again = decoder.decode(&mut BytesMut::from(&again[..])).expect("what we wrote reads").expect("whole");
    assert_eq!(Control::read(&again).ok(), Control::read(&frame).ok());
}
