// SPDX-License-Identifier: MIT OR Apache-2.0
//
// TOA, the sending side: writes an option with the client's address into the TCP header of connections that were
// registered for it. src/toa/sender.rs loads it, and registers.
//
// The option is on the segment that completes the handshake, which is where receivers look, and on every other one until
// the first data is acknowledged: until then that segment may have been lost, and then another one completes the
// handshake. After that the socket is left alone.
#include "kernel.h"

#define OPTION_LENGTH 8

// In `flags`, for user space to read.
#define ARMED 1   // this program asked to be called for each segment, and still is
#define SENT 2    // at least one segment carried the option

struct registration {
    __u64 number;               // of this registration, each has another
    __u8 option[OPTION_LENGTH]; // as on the wire: kind, length, client port, client address
    __u8 flags;
    __u8 unused[7];
};

// What is registered, by socket; it goes with the socket.
struct {
    __uint(type, BPF_MAP_TYPE_SK_STORAGE);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __type(key, int);
    __type(value, struct registration);
} registered SEC(".maps");

// What user space wants registered, by the low bits of a socket's cookie: its own system call for that would cost more than
// all the rest. User space maps it, and writes an order there just before it connects the socket, which is when it is taken.
struct order {
    __u64 cookie;
    struct registration registration;
};
#define ORDERS 256
#define TAKEN (~0ULL) // instead of the cookie
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(map_flags, BPF_F_MMAPABLE);
    __uint(max_entries, ORDERS);
    __type(key, __u32);
    __type(value, struct order);
} orders SEC(".maps");

// The numbers of those whose option was sent last, each in the place that its low bits name. User space maps it, and finds
// most of what it wants to know without a system call; of a number that another has replaced, the flags tell.
#define PLACES 16384
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(map_flags, BPF_F_MMAPABLE);
    __uint(max_entries, PLACES);
    __type(key, __u32);
    __type(value, __u64);
} sent SEC(".maps");

static always_inline void note_sent(struct registration *r)
{
    __u32 at = r->number & (PLACES - 1);
    __u64 *place = bpf_map_lookup_elem(&sent, &at);
    if (place)
        *place = r->number;
    r->flags |= SENT;
}

static always_inline void take_order(struct bpf_sock_ops *ops)
{
    __u64 cookie = bpf_get_socket_cookie(ops);
    __u32 at = cookie & (ORDERS - 1);
    struct order *order = bpf_map_lookup_elem(&orders, &at);
    struct bpf_sock *sk = ops->sk;
    if (order && sk && order->cookie == cookie &&
        bpf_sk_storage_get(&registered, sk, &order->registration, BPF_SK_STORAGE_GET_F_CREATE))
        order->cookie = TAKEN;
}

SEC("sockops")
int toa_sender(struct bpf_sock_ops *ops)
{
    __u32 op = ops->op;
    if (op == BPF_SOCK_OPS_TCP_CONNECT_CB) {
        take_order(ops);
        return 1;
    }
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
            // Without room for it there is none on this segment, and perhaps on the next.
            bpf_reserve_hdr_opt(ops, OPTION_LENGTH, 0);
        } else if (r->flags & ARMED) {
            // Once, and only what was armed here: another program may write options of its own.
            bpf_sock_ops_cb_flags_set(ops, flags & ~BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG);
            r->flags &= ~ARMED;
        }
    } else if (!acknowledged && !bpf_store_hdr_opt(ops, r->option, OPTION_LENGTH, 0) && !(r->flags & SENT)) {
        note_sent(r);
    }
    return 1;
}

char _license[] SEC("license") = "Dual MIT/GPL";
