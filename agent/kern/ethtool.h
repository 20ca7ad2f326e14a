/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Features of a device of this network namespace, by their names in ethtool(8). A thin door. All
 * functions return 0 or -errno; -ENODEV: there is no such interface.
 */

#include <stdbool.h>
#include <stdint.h>

#include "agent/core/offload.h"

/* A feature that the kernel does not know is one that the device does not have. */
int ethtool_get_feature(uint32_t ifindex, const char *name, struct offload_feature *ret);

/*
 * Asks for a feature to be on or off; CAP_NET_ADMIN. -EOPNOTSUPP: it is fixed, or the device did not
 * do it.
 */
int ethtool_set_feature(uint32_t ifindex, const char *name, bool on);
