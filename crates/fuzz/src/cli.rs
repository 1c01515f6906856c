use bytes::Bytes;
use cuttlebone_cli::conf::Conf;
use cuttlebone_cli::mon_host::MonHost;
use cuttlebone_cli::wire::TYPES;
use cuttlebone_wire::Features;

/// A configuration file that was understood is understood again when it is printed.
pub(crate) fn conf(data: &[u8]) {
    if let Ok(text) = core::str::from_utf8(data)
        && let Ok(conf) = text.parse::<Conf>()
    {
        assert_eq!(conf.to_string().parse(), Ok(conf));
    }
}

/// A list of monitors that was understood is understood again when it is printed.
pub(crate) fn mon_host(data: &[u8]) {
    if let Ok(text) = core::str::from_utf8(data)
        && let Ok(list) = text.parse::<MonHost>()
    {
        assert_eq!(list.to_string().parse(), Ok(list));
    }
}

/// What `wire reencode` writes, it reads and writes again; the first byte chooses the type.
pub(crate) fn reencode(data: &[u8]) {
    let Some((choice, object)) = data.split_first() else { return };
    let kind = &TYPES[usize::from(*choice) % TYPES.len()];
    let object = Bytes::copy_from_slice(object);
    for features in [None, Some(Features::PACIFIC), Some(Features::empty())] {
        if let Ok(decoded) = kind.decode(&object, features) {
            let again = kind.decode(&decoded.encoded, None).expect("what we wrote must decode");
            assert_eq!(again.encoded, decoded.encoded, "{}", kind.name);
        }
    }
}
