//! The option's bytes: kind, length 8, client port, client address. Pure.

use std::net::SocketAddrV4;

/// The kind that receivers expect: the second of the two that are set aside for experiments (RFC 4727). 200 is seen in the field too.
pub const KIND_DEFAULT: u8 = 254;

/// The length of the option for a client of IPv4, kind and length included.
pub(super) const LENGTH: usize = 8;

/// A TCP header without options.
const TCP_HEADER_BYTES: usize = 20;

/// The option for a client.
pub(super) fn encode(kind: u8, client: SocketAddrV4) -> [u8; LENGTH] {
    let ([p0, p1], [a, b, c, d]) = (client.port().to_be_bytes(), client.ip().octets());
    [kind, LENGTH as u8, p0, p1, a, b, c, d]
}

/// The option of this kind in a TCP header, whole; `None` where there is none.
pub(super) fn find(kind: u8, tcp: &[u8]) -> Option<&[u8]> {
    let header = usize::from(tcp.get(12)? >> 4) * 4;
    let mut options = tcp.get(TCP_HEADER_BYTES..header)?;
    loop {
        match *options {
            // The end of the list, or one byte of padding.
            [] | [0, ..] => return None,
            [1, ..] => options = &options[1..],
            [_, length, ..] if length < 2 => return None,
            [found, length, ..] => {
                let option = options.get(..length.into())?;
                if found == kind {
                    return Some(option);
                }
                options = &options[length.into()..];
            }
            [_] => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_bytes_are_those_that_receivers_know() {
        let option = encode(KIND_DEFAULT, "203.0.113.7:51234".parse().unwrap());
        assert_eq!(option, [0xfe, 0x08, 0xc8, 0x22, 0xcb, 0x00, 0x71, 0x07]);
    }

    fn header(options: &[u8]) -> Vec<u8> {
        let mut header = vec![0; TCP_HEADER_BYTES];
        header[12] = ((TCP_HEADER_BYTES + options.len()) as u8 / 4) << 4;
        header.extend(options);
        header
    }

    #[test]
    fn it_is_found_among_other_options() {
        let toa = encode(254, "10.0.0.20:1".parse().unwrap());
        let timestamps = [1, 1, 8, 10, 0, 0, 0, 0, 0, 0, 0, 0];
        let among = header(&[&timestamps[..], &toa].concat());
        assert_eq!(find(254, &among), Some(&toa[..]));
        assert_eq!(find(200, &among), None);
        assert_eq!(find(8, &among), Some(&timestamps[2..]));
        assert_eq!(find(254, &header(&timestamps)), None);
        // After the end of the list, beyond the header, in a list that is broken.
        assert_eq!(find(254, &header(&[&[0, 0, 0, 0][..], &toa].concat())), None);
        assert_eq!(find(254, &[header(&[]), toa.to_vec()].concat()), None);
        assert_eq!(find(254, &header(&[&[8, 1, 0, 0][..], &toa].concat())), None);
        assert_eq!(find(254, &header(&[254, 9, 0, 0])), None);
    }

    proptest! {
        #[test]
        fn no_header_is_too_odd(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            find(254, &bytes);
        }
    }
}
