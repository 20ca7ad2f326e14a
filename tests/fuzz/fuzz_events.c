/* SPDX-License-Identifier: MIT */
/* A datagram of the event sockets: any number of messages, cut anywhere. */

#include <linux/netlink.h>

#include "agent/core/snapshot.h"
#include "agent/kern/events.h"
#include "agent/util/cleanup.h"
#include "tests/fuzz/fuzz.h"

struct heard {
	int32_t nsid;
	size_t n;
};

static void ring(const struct bell *bell, void *userdata)
{
	struct heard *heard = userdata;

	heard->n++;
	CHECK(bell->nsid == heard->nsid && !bell->overrun);
	CHECK(bell->netns_changed || bell->nsid_given || bell->nsid_taken || bell->routes_changed ||
		bell->neighbour_changed || bell->tc_changed);
	/* What happens in another namespace says nothing about this one's devices and numbers. */
	if (bell->nsid != NSID_OWN)
		CHECK(!bell->veth_changed && !bell->nsid_given && !bell->nsid_taken);
	CHECK(!bell->tc_changed || bell->tc_ifindex > 0);
	CHECK(!bell->one_route ||
		(bell->routes_changed && bell->route.length > 0 && bell->route.length <= 32));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_free_ void *buffer = NULL;
	struct input input = { data, size };
	struct heard heard = { .nsid = take_byte(&input) % 2 ? NSID_OWN : 7 };

	buffer = copy_exactly(input.data, input.size);
	events_decode(buffer, input.size, heard.nsid, ring, &heard);
	CHECK(heard.n <= input.size / NLMSG_HDRLEN);
	return 0;
}
