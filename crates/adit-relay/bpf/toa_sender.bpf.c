// SPDX-License-Identifier: MIT OR Apache-2.0
//
// TOA, the sending side: writes an option with the client's address into the TCP header of connections that were
// registered for it. src/toa/sender.rs loads it, and registers.
//
// The option is on the segment that completes the handshake, which is where receivers look, and on data until the first
// of it is acknowledged: until then that segment may have been lost, and then it is the data that completes the
// handshake. After that the socket is left alone.
#include "kernel.h"

#define OPTION_LENGTH 8

// In `flags`, for user space to read.
#define ARMED 1   // this program asked to be called for each segment, and still is
#define SENT 2    // at least one segment carried the option
#define NO_ROOM 4 // at least one segment had no room for it

struct registration {
    __u8 flags;
    __u8 unused[3];
    __u8 option[OPTION_LENGTH]; // as on the wire: kind, length, client port, client address
};

// What user space has registered, by socket; it goes with the socket.
struct {
    __uint(type, BPF_MAP_TYPE_SK_STORAGE);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __type(key, int);
    __type(value, struct registration);
} registered SEC(".maps");

SEC("sockops")
int toa_sender(struct bpf_sock_ops *ops)
{
    __u32 op = ops->op;
    if (op != BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB && op != BPF_SOCK_OPS_HDR_OPT_LEN_CB &&
        op != BPF_SOCK_OPS_WRITE_HDR_OPT_CB)
        return 1;
    struct bpf_sock *sk = ops->sk;
    struct registration *r = sk ? bpf_sk_storage_get(&registered, sk, 0, 0) : 0;
    if (!r) // not ours: touch nothing
        return 1;
    __u32 flags = ops->bpf_sock_ops_cb_flags;
    // The SYN counts as one byte; more is data.
    int acknowledged = ops->bytes_acked > 1;

    if (op == BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB) {
        // The segment that completes the handshake is built after this.
        if (!bpf_sock_ops_cb_flags_set(ops, flags | BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG))
            r->flags |= ARMED;
    } else if (op == BPF_SOCK_OPS_HDR_OPT_LEN_CB) {
        if (!acknowledged) {
            if (bpf_reserve_hdr_opt(ops, OPTION_LENGTH, 0))
                r->flags |= NO_ROOM;
        } else if (r->flags & ARMED) {
            // Once, and only what was armed here: another program may write options of its own.
            bpf_sock_ops_cb_flags_set(ops, flags & ~BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG);
            r->flags &= ~ARMED;
        }
    } else if (!acknowledged && !bpf_store_hdr_opt(ops, r->option, OPTION_LENGTH, 0)) {
        r->flags |= SENT;
    }
    return 1;
}

char _license[] SEC("license") = "Dual MIT/GPL";
