/* SPDX-License-Identifier: MIT */
/*
 * By ioctl: netlink's ethtool family (5.6) does the same, but needs its number looked up first and
 * bit sets taken apart. ioctl goes by the interface's name, so the name is looked up each time.
 */
#include <errno.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "agent/kern/ethtool.h"
#include "agent/util/cleanup.h"

#define FEATURES_MAX 1024 /* 60 to 70 as of 2026; bounds what the kernel is believed */

struct device {
	int fd;
	struct ifreq request;
};

static void device_done(struct device *device)
{
	closep(&device->fd);
}

/*
 * Any socket does; the service is allowed AF_UNIX. Not by if_indextoname(): without a descriptor left it says
 * ENOENT, of a file that it looked for meanwhile.
 */
static int device_open(uint32_t ifindex, struct device *device)
{
	device->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (device->fd < 0)
		return -errno;
	device->request.ifr_ifindex = (int)ifindex;
	return ioctl(device->fd, SIOCGIFNAME, &device->request) < 0 ? -errno : 0;
}

/* What the ioctl returns, for ETHTOOL_SFEATURES a set of flags; or -errno. */
static int device_ask(struct device *device, void *command)
{
	int r;

	device->request.ifr_data = command;
	r = ioctl(device->fd, SIOCETHTOOL, &device->request);
	return r < 0 ? -errno : r;
}

static int count_features(struct device *device, uint32_t *ret)
{
	struct {
		struct ethtool_sset_info info;
		uint32_t size;
	} command = { .info = { .cmd = ETHTOOL_GSSET_INFO,
			      .sset_mask = UINT64_C(1) << ETH_SS_FEATURES } };
	int r = device_ask(device, &command);

	if (r < 0)
		return r;
	if (command.info.sset_mask == 0 || command.size > FEATURES_MAX)
		return -EOPNOTSUPP;
	*ret = command.size;
	return 0;
}

/* The bit of a feature, and how many there are. -ENOENT: the kernel knows none of that name. */
static int find_feature(struct device *device, const char *name, uint32_t *ret_bit, uint32_t *ret_n)
{
	_cleanup_free_ struct ethtool_gstrings *strings = NULL;
	uint32_t n;
	int r;

	r = count_features(device, &n);
	if (r < 0)
		return r;
	strings = calloc(1, sizeof(*strings) + (size_t)n * ETH_GSTRING_LEN);
	if (!strings)
		return -ENOMEM;
	strings->cmd = ETHTOOL_GSTRINGS;
	strings->string_set = ETH_SS_FEATURES;
	strings->len = n;
	r = device_ask(device, strings);
	if (r < 0)
		return r;
	for (uint32_t i = 0; i < n; i++) {
		const char *text = (const char *)strings->data + (size_t)i * ETH_GSTRING_LEN;

		if (strncmp(text, name, ETH_GSTRING_LEN) == 0) {
			*ret_bit = i;
			*ret_n = n;
			return 0;
		}
	}
	return -ENOENT;
}

static uint32_t words(uint32_t n_bits)
{
	return (n_bits + 31) / 32;
}

static int get_feature(struct device *device, uint32_t bit, uint32_t n, struct offload_feature *ret)
{
	_cleanup_free_ struct ethtool_gfeatures *features = NULL;
	const struct ethtool_get_features_block *block;
	uint32_t mask = UINT32_C(1) << (bit % 32);
	int r;

	features = calloc(1, sizeof(*features) + words(n) * sizeof(features->features[0]));
	if (!features)
		return -ENOMEM;
	features->cmd = ETHTOOL_GFEATURES;
	features->size = words(n);
	r = device_ask(device, features);
	if (r < 0)
		return r;
	block = &features->features[bit / 32];
	*ret = (struct offload_feature){
		.changeable = (block->available & ~block->never_changed & mask) != 0,
		.wanted = (block->requested & mask) != 0,
		.active = (block->active & mask) != 0,
	};
	return 0;
}

int ethtool_get_feature(uint32_t ifindex, const char *name, struct offload_feature *ret)
{
	_cleanup_(device_done) struct device device = { .fd = -1 };
	uint32_t bit, n;
	int r;

	r = device_open(ifindex, &device);
	if (r < 0)
		return r;
	r = find_feature(&device, name, &bit, &n);
	if (r == -ENOENT) {
		*ret = (struct offload_feature){ 0 };
		return 0;
	}
	return r < 0 ? r : get_feature(&device, bit, n, ret);
}

int ethtool_set_feature(uint32_t ifindex, const char *name, bool on)
{
	_cleanup_(device_done) struct device device = { .fd = -1 };
	_cleanup_free_ struct ethtool_sfeatures *features = NULL;
	uint32_t bit, n, mask;
	int r;

	r = device_open(ifindex, &device);
	if (r < 0)
		return r;
	r = find_feature(&device, name, &bit, &n);
	if (r < 0)
		return r == -ENOENT ? -EOPNOTSUPP : r;
	features = calloc(1, sizeof(*features) + words(n) * sizeof(features->features[0]));
	if (!features)
		return -ENOMEM;
	mask = UINT32_C(1) << (bit % 32);
	features->cmd = ETHTOOL_SFEATURES;
	features->size = words(n);
	features->features[bit / 32].valid = mask;
	features->features[bit / 32].requested = on ? mask : 0;
	r = device_ask(&device, features);
	if (r < 0)
		return r;
	/* WISH: it is noted, and comes when what it needs does. Off needs nothing. */
	return (r & ETHTOOL_F_UNSUPPORTED) || (!on && (r & ETHTOOL_F_WISH)) ? -EOPNOTSUPP : 0;
}
