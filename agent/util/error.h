/* SPDX-License-Identifier: MIT */
#pragma once

#include <errno.h>
#include <stdbool.h>

/* The kernel was short of something, or interrupted. Of the other errors nothing but a change helps. */
static inline bool error_may_pass(int r)
{
	switch (r) {
	case -ENOMEM:
	case -ENOBUFS:
	case -ENOSPC:
	case -EMFILE:
	case -ENFILE:
	case -EINTR:
	case -EAGAIN:
	case -EIO: /* libnl's and libbpf's word for many of these */
	case -EPERM:
		return true;
	default:
		return false;
	}
}
