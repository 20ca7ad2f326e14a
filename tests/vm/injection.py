# SPDX-License-Identifier: MIT
"""Which system calls the agent makes, and which errors the kernel may answer each with: the cases of test_faults.py."""

import collections
import re

# What cannot fail in a way that a program could see or mind.
NEVER_FAIL = {
    "brk",  # libc asks mmap instead
    "execve", "exit", "exit_group", "futex", "rt_sigreturn", "restart_syscall",
    "clock_gettime",  # of a clock that there is
    "getpid", "gettid", "getuid", "geteuid", "getgid", "getegid", "rt_sigaction", "rt_sigprocmask", "uname", "umask",
    "munmap", "rseq", "set_robust_list", "set_tid_address",
    "kill", "wait4", "waitid", "getppid",  # of a child that is there, with all signals blocked
    # An error that is injected keeps strace from closing, which no kernel does. So descriptors would be lost, and a
    # namespace live on.
    "close",
}

FILES = ("EMFILE", "ENOMEM")
ERRORS = {
    "bpf": ("ENOMEM", "EPERM", "ENOSPC", "EINTR"),
    "sendmsg": ("ENOBUFS", "ENOMEM", "EINTR", "EPERM"),
    "sendto": ("ENOBUFS", "ENOMEM", "EINTR", "EPERM"),
    "recvmsg": ("ENOBUFS", "ENOMEM", "EINTR"),
    "recvfrom": ("ENOBUFS", "ENOMEM", "EINTR"),
    "socket": (*FILES, "ENOBUFS", "EPERM"),
    "accept4": (*FILES, "EINTR"),
    "bind": ("ENOMEM", "EPERM", "ENOSPC"),
    "connect": ("EINTR", "EPERM", "ENOMEM"),
    "setsockopt": ("ENOBUFS", "ENOMEM", "EPERM"),
    "open": (*FILES, "EINTR", "EPERM", "ENOSPC"),
    "openat": (*FILES, "EINTR", "EPERM", "ENOSPC"),
    "read": ("EINTR", "ENOMEM"),
    "pread64": ("EINTR", "ENOMEM"),
    "readv": ("EINTR", "ENOMEM"),
    "write": ("ENOSPC", "EINTR", "ENOMEM"),
    "writev": ("ENOSPC", "EINTR", "ENOMEM"),
    "mkdir": ("ENOSPC", "EPERM", "ENOMEM"),
    "renameat": ("ENOSPC", "EPERM", "ENOMEM"),
    "rename": ("ENOSPC", "EPERM", "ENOMEM"),
    "mmap": ("ENOMEM",),
    "mremap": ("ENOMEM",),
    "mprotect": ("ENOMEM",),
    "epoll_create1": FILES,
    "epoll_ctl": ("ENOMEM", "ENOSPC"),
    "epoll_wait": ("EINTR",),
    "epoll_pwait": ("EINTR",),
    "epoll_pwait2": ("EINTR",),
    "poll": ("EINTR", "ENOMEM"),
    "ppoll": ("EINTR", "ENOMEM"),
    "timerfd_create": FILES,
    "timerfd_settime": ("ENOMEM",),
    "signalfd4": FILES,
    "inotify_init1": FILES,
    "inotify_add_watch": ("ENOSPC", "ENOMEM"),
    "dup": ("EMFILE",), "dup2": ("EMFILE",), "dup3": ("EMFILE",),
    # EPERM to NS_GET_USERNS is an answer: it is somebody else's namespace (kernel/user_namespace.c, ns_get_owner()).
    "ioctl": ("EINTR", "ENOMEM"),
    "flock": ("EINTR", "ENOMEM"),
    "nanosleep": ("EINTR",), "clock_nanosleep": ("EINTR",),
    "getdents64": ("ENOMEM", "EINTR"),
}
OTHERS = ("ENOMEM", "EPERM")
WITH_DATA = ("read", "pread64", "write", "sendto", "recvfrom", "sendmsg", "recvmsg", "getrandom", "bpf")  # instead of a path
# Answers that are no error. Others would be made of data that the call did not give. What getdents64 does not list is not
# there: 0 would be a lie, not a refusal.
VALUES = {"read": ("retval=0",), "write": ("retval=0",), "recvmsg": ("retval=0",)}


# The kernel may do a part: partial.c. To count such calls, a number that none reaches.
PART = "in part"
COUNT_PARTS = ("read", 1 << 30, PART)
# Without these no status is written.
NEEDED_TO_SAY = {"openat", "write", "renameat", "unlinkat", "mmap"}


def faults_of(call):
    """As strace wants them behind `inject=CALL:`."""
    return [f"error={name}" for name in ERRORS.get(call, OTHERS)] + list(VALUES.get(call, ()))


def may_be_silent(call, fault):
    """Whether an agent that has this fault all the time can say nothing. One whose every call is interrupted goes on calling, as
    each program does; the watchdog ends that."""
    return call in NEEDED_TO_SAY or fault == "error=EINTR"


def cut_in(text):
    """Of partial's report: {call: (how many were cut short, of how many that the kernel may do in part)}."""
    return {call: (int(cut), int(seen)) for call, cut, seen in re.findall(r"^(\w+): (\d+) of (\d+)$", text, re.M)}


def calls_in(text):
    """[(process, system call, what stands in its parentheses)] of strace's output."""
    found = []
    for line in text.splitlines():
        match = re.match(r"(?:(\d+) +)?([a-z]\w*)\((.*)", line)
        if match:
            found.append(match.groups())
    return found


def place_of(call, text):
    """Calls of one kind are told apart by what they are for: paths and numbers do not count, commands do."""
    commands = re.findall(r"\b(?:(?:RTM|BPF|PR|SIOC|SO|NETLINK|NLA|NS|F)_[A-Z_0-9]+|(?:READY|STOPPING|STATUS)=)", text)
    path = None if call in WITH_DATA else re.search(r'"([^"]*)"', text)
    return call, " ".join(commands[:2]) or re.sub(r"\d+", "N", path[1] if path else "")


def places_in(text, after=0, but=None):
    """{place: numbers of its calls}; a number counts among all of that call in its process, as `when=` does. What came
    before line `after` counts without being listed; process `but` is left out."""
    places, numbers = collections.defaultdict(list), collections.Counter()
    for i, (process, call, arguments) in enumerate(calls_in(text)):
        numbers[process, call] += 1
        if i >= after and process != but and call not in NEVER_FAIL:
            places[place_of(call, arguments)].append(numbers[process, call])
    return {place: sorted(set(found)) for place, found in places.items()}


def reads_before(text, after):
    """{call: how many} of files, before line `after`: of the loader, which reads nothing else."""
    return collections.Counter(call for _, call, _ in calls_in(text)[:after] if call in ("read", "pread64"))


def after_the_loader(text):
    """The loader's own failures are none of the agent's; it ends with the map of ld.so.cache."""
    calls = [call[1:] for call in calls_in(text)]
    size = next(re.match(r"NULL, (\d+), PROT_READ", args)[1] for (before, path), (call, args) in zip(calls, calls[2:])
                if call == "mmap" and before == "openat" and "ld.so.cache" in path)
    return next(i for i, (call, args) in enumerate(calls) if call == "munmap" and f", {size})" in args) + 1


def found_of(places, found):
    """[(call, number, fault)]: of `found`, [(call, what its place is called in part, fault)], the last call each."""
    cases = []
    for call, text, fault in found:
        numbers = [number for (name, what), listed in places.items() if name == call and text in what for number in listed]
        assert numbers, f"no {call} of {text}"
        cases.append((call, max(numbers), fault))
    return cases


def some_of(places, count, rng):
    """[(call, number, fault)]: so many system calls, each once; all of them where there are no more."""
    chosen = []
    calls = sorted({call for call, _ in places})
    for call in sorted(rng.sample(calls, min(count, len(calls)))):
        place = rng.choice(sorted(place for place in places if place[0] == call))
        chosen.append((call, rng.choice(places[place]), rng.choice(faults_of(call))))
    return chosen


def all_of(places):
    """[(call, number, fault)]: each place's first and last call, the faults in turn; each fault of a call at least once."""
    cases, turns = [], collections.Counter()
    for (call, _), numbers in sorted(places.items()):
        for number in sorted({numbers[0], numbers[-1]}):
            faults = faults_of(call)
            cases.append((call, number, faults[turns[call] % len(faults)]))
            turns[call] += 1
    for call in list(turns):
        faults = faults_of(call)
        numbers = [number for (name, _), found in sorted(places.items()) if name == call for number in found]
        for i in range(turns[call], len(faults)):
            cases.append((call, numbers[i % len(numbers)], faults[i]))
    return cases


def parts_of(counts, before=()):
    """[(call, number, PART)]: each of those calls, as cut_in() has them, but as many as `before` has, {call: how many}."""
    before = dict(before)
    return [(call, number, PART) for call, (_, seen) in sorted(counts.items())
            for number in range(before.get(call, 0) + 1, seen + 1)]
