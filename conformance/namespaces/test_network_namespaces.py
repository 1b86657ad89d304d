"""network_namespaces(7): devices, routes, ports and names of sockets."""

from __future__ import annotations

import struct

from pytest_procsemantics import Process, Target, clause
from pytest_procsemantics.driven import Observer, fails
from pytest_procsemantics.driven.constants import (
    AF_INET,
    AF_NETLINK,
    AF_UNIX,
    AT_FDCWD,
    CLONE_NEWNET,
    CLONE_NEWUSER,
    EADDRINUSE,
    EAGAIN,
    ECONNREFUSED,
    ENETUNREACH,
    ENODEV,
    MSG_DONTWAIT,
    O_DIRECTORY,
    SIGCHLD,
    SOCK_DGRAM,
    SOCK_RAW,
    SOCK_STREAM,
)
from pytest_procsemantics.driven.forms import abstract_address
from pytest_procsemantics.lies import drops, leaves_out, lie
from pytest_procsemantics.requirements import namespace_flags, own_namespaces, private_mounts

SAME = drops(CLONE_NEWNET | CLONE_NEWUSER)
STAYS = leaves_out("unshare")
# netdevice(7), rtnetlink(7)
SIOCADDRT, SIOCSIFFLAGS, SIOCSIFNAME, NAME_BYTES = 0x890B, 0x8914, 0x8923, 16
IFF_UP = b"\1"
NETLINK_ROUTE, RTMGRP_LINK, RTM_NEWLINK = 0, 1, 16
ROUTE = struct.Struct(
    "<8x16s16s16sH30xQ24x"
)  # struct rtentry: to, by, mask, flags, name of a device
RTF_UP = 1
NETWORK = bytes([198, 51, 100, 7])  # for documentation (RFC 5737)
# What each namespace has where the kernel has it built in.
BUILT_IN = set(b"erspan0 gre0 gretap0 ip6gre0 ip6_vti0 ip6tnl0 ip_vti0 sit0 tunl0".split())
TTL = "/proc/sys/net/ipv4/ip_default_ttl"


def internet(port: int) -> bytes:
    """The address of a port at the loopback device (ip(7))."""
    return struct.pack(">2sHI8x", AF_INET.to_bytes(2, "little"), port, 0x7F000001)


def new_member(parent: Process) -> Process:
    """A child in a new network namespace."""
    flags = namespace_flags(parent, CLONE_NEWNET)
    return parent.clone(flags | SIGCHLD, name="member")


def devices(process: Process) -> set[bytes]:
    """The names of the network devices that a process has."""
    lines = Observer(process).read("/proc/self/net/dev").splitlines()[2:]
    return {line.split(b":")[0].strip() for line in lines}


@clause("network_namespaces.7/loopback-starts-down")
@lie(SAME)
def test_nothing_can_be_reached_in_a_new_namespace(parent: Process) -> None:
    member = new_member(parent)
    socket = member.sys.socket(AF_INET, SOCK_DGRAM, 0)
    with fails(ENETUNREACH):
        member.sys.connect(socket, internet(9))


@clause("network_namespaces.7/ports-isolated")
@lie(SAME)
def test_a_port_is_free_again_in_a_new_namespace(parent: Process) -> None:
    own_namespaces(parent, CLONE_NEWNET)
    address = struct.pack(">2sHI8x", AF_INET.to_bytes(2, "little"), 4711, 0)
    parent.sys.bind(parent.sys.socket(AF_INET, SOCK_STREAM, 0), address)
    with fails(EADDRINUSE):
        parent.sys.bind(parent.sys.socket(AF_INET, SOCK_STREAM, 0), address)
    member = parent.clone(CLONE_NEWNET | SIGCHLD, name="member")
    member.sys.bind(member.sys.socket(AF_INET, SOCK_STREAM, 0), address)


@clause("network_namespaces.7/proc-net-is-own")
@lie(SAME)
def test_proc_net_is_the_readers(parent: Process, target: Target) -> None:
    address = abstract_address(target.folder())
    parent.sys.bind(parent.sys.socket(AF_UNIX, SOCK_DGRAM, 0), address)
    member = new_member(parent)
    assert Observer(member).link("/proc/net") == "self/net"
    assert target.folder().encode() in Observer(parent).read("/proc/net/unix")
    assert target.folder().encode() not in Observer(member).read("/proc/net/unix")


@clause("network_namespaces.7/sys-net-sysctls-isolated")
@lie(STAYS)
def test_a_setting_is_the_namespaces_own(parent: Process, observer: Observer) -> None:
    own_namespaces(parent, CLONE_NEWNET, root=True)
    assert observer.namespace(parent, "net") != observer.namespace(observer.process, "net")
    parent.write_to(TTL, b"31")
    member = parent.fork("member")
    member.sys.unshare(CLONE_NEWNET)
    member.write_to(TTL, b"33")
    assert (Observer(parent).read(TTL), Observer(member).read(TTL)) == (b"31\n", b"33\n")


@clause("network_namespaces.7/abstract-sockets-isolated")
@lie(SAME)
def test_an_abstract_name_is_the_namespaces(parent: Process, target: Target) -> None:
    address = abstract_address(target.folder())
    listener = parent.sys.socket(AF_UNIX, SOCK_STREAM, 0)
    parent.sys.bind(listener, address)
    parent.sys.listen(listener, 1)
    member = new_member(parent)
    with fails(ECONNREFUSED):
        member.sys.connect(member.sys.socket(AF_UNIX, SOCK_STREAM, 0), address)
    member.sys.bind(member.sys.socket(AF_UNIX, SOCK_STREAM, 0), address)


@clause("network_namespaces.7/path-sockets-not-isolated")
@lie(leaves_out("listen"))
def test_a_name_in_a_folder_is_everybodys(parent: Process, target: Target) -> None:
    address = struct.pack("<H", AF_UNIX) + f"{target.folder()}/socket".encode() + b"\0"
    listener = parent.sys.socket(AF_UNIX, SOCK_STREAM, 0)
    parent.sys.bind(listener, address)
    parent.sys.listen(listener, 1)
    member = new_member(parent)
    assert member.sys.connect(member.sys.socket(AF_UNIX, SOCK_STREAM, 0), address) == 0


@clause("network_namespaces.7/open-sockets-stay-in-old-namespace")
@lie(leaves_out("bind"))
def test_an_open_socket_stays_where_it_was(parent: Process, target: Target) -> None:
    address = abstract_address(target.folder())
    listener = parent.sys.socket(AF_UNIX, SOCK_STREAM, 0)
    member = parent.fork("member")
    member.sys.unshare(namespace_flags(member, CLONE_NEWNET))
    member.sys.bind(listener, address)
    member.sys.listen(listener, 1)
    assert parent.sys.connect(parent.sys.socket(AF_UNIX, SOCK_STREAM, 0), address) == 0


@clause("network_namespaces.7/sysfs-shows-own-devices")
@lie(leaves_out("mount"))
def test_a_mount_of_sysfs_shows_the_namespaces_devices(parent: Process, target: Target) -> None:
    private_mounts(parent, CLONE_NEWNET, root=True)
    parent.sys.mount("sysfs", target.folder(), "sysfs")
    folder = parent.sys.openat(AT_FDCWD, f"{target.folder()}/class/net", O_DIRECTORY)
    names = set(parent.sys.getdents64(folder)) - {b".", b"..", b"bonding_masters"}
    assert names == devices(parent)


# --- devices ---


def change_device(process: Process, request: int, name: bytes, change: bytes) -> None:
    """Change a device by a request of netdevice(7)."""
    socket = process.sys.socket(AF_INET, SOCK_DGRAM, 0)
    process.sys.ioctl(socket, request, name.ljust(NAME_BYTES, b"\0") + change.ljust(24, b"\0"))


def raise_loopback(process: Process) -> None:
    """Let the loopback device begin to work."""
    change_device(process, SIOCSIFFLAGS, b"lo", IFF_UP)


@clause("network_namespaces.7/devices-isolated")
@lie(SAME)
def test_a_device_is_the_namespaces(parent: Process) -> None:
    own_namespaces(parent, CLONE_NEWNET, root=True)
    change_device(parent, SIOCSIFNAME, b"lo", b"renamed")
    member = parent.clone(CLONE_NEWNET | SIGCHLD, name="member")
    assert b"renamed" in devices(parent)
    assert b"renamed" not in devices(member)
    assert devices(member) - BUILT_IN == {b"lo"}
    with fails(ENODEV):
        change_device(member, SIOCSIFNAME, b"renamed", b"again")


def loopback_route(process: Process) -> bytes:
    """A struct rtentry: to a network of its own over the loopback device."""
    name = process.allocate(NAME_BYTES)
    process.store(name, b"lo\0")
    family = AF_INET.to_bytes(2, "little")
    to, mask = (family + bytes(2) + address + bytes(8) for address in (NETWORK, b"\xff" * 4))
    return ROUTE.pack(to, family, mask, RTF_UP, name)


@clause("network_namespaces.7/routes-isolated")
@lie(SAME)
def test_a_route_is_the_namespaces(parent: Process) -> None:
    own_namespaces(parent, CLONE_NEWNET, root=True)
    raise_loopback(parent)
    parent.sys.ioctl(parent.sys.socket(AF_INET, SOCK_DGRAM, 0), SIOCADDRT, loopback_route(parent))
    member = parent.clone(CLONE_NEWNET | SIGCHLD, name="member")
    raise_loopback(member)
    assert len(Observer(parent).read("/proc/self/net/route").splitlines()) == 2
    assert len(Observer(member).read("/proc/self/net/route").splitlines()) == 1


def new_listener(process: Process) -> int:
    """A socket to which is told what happens to devices (rtnetlink(7))."""
    socket = process.sys.socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE)
    process.sys.bind(socket, struct.pack("<HHII", AF_NETLINK, 0, 0, RTMGRP_LINK))
    return int(socket)


@clause("network_namespaces.7/netlink-events-stay-inside")
@lie(SAME)
def test_what_happens_to_a_device_is_told_in_its_namespace(parent: Process) -> None:
    own_namespaces(parent, CLONE_NEWNET, root=True)
    member = parent.clone(CLONE_NEWNET | SIGCHLD, name="member")
    outside, inside = new_listener(parent), new_listener(member)
    raise_loopback(member.fork())
    told = member.sys.recvfrom(inside, 4096, MSG_DONTWAIT)
    assert int.from_bytes(told[4:6], "little") == RTM_NEWLINK
    with fails(EAGAIN):
        parent.sys.recvfrom(outside, 4096, MSG_DONTWAIT)
