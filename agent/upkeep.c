/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <net/if.h>
#include <string.h>

#include "agent/upkeep.h"
#include "agent/util/log.h"

/* Asked so often in vain, it is worth a line in the log. */
#define SILENT 3

bool upkeep_minds(const struct upkeep *upkeep, const struct bell *bell)
{
	return bell->neighbour_changed &&
	       next_hops_has(&upkeep->hops, bell->neighbour_ifindex, bell->neighbour);
}

static const char *interface_name(uint32_t ifindex, char buf[static IF_NAMESIZE])
{
	if (!if_indextoname(ifindex, buf))
		(void)strcpy(buf, "?");
	return buf;
}

static void look_after(struct upkeep *upkeep, struct next_hop *hop, uint64_t now)
{
	unsigned int asked = hop->asked;
	char name[IF_NAMESIZE];
	struct neighbour neighbour = { 0 };
	int r;

	r = rtnl_get_neighbour(upkeep->rtnl, hop->ifindex, hop->gateway, &neighbour);
	memcpy(hop->mac, neighbour.mac, sizeof(hop->mac));
	if (r < 0 && r != -ENOENT)
		return; /* the next full pass looks again */
	if (next_hop_ask(hop, next_hop_state(neighbour.nud), now)) {
		log_debug("%s: asking for the gateway %s", interface_name(hop->ifindex, name),
			IP4_FORMAT(hop->gateway));
		r = rtnl_use_neighbour(upkeep->rtnl, hop->ifindex, hop->gateway);
		if (r < 0 && r != -ENODEV)
			log_warning("%s: cannot have the gateway %s probed: %s",
				interface_name(hop->ifindex, name), IP4_FORMAT(hop->gateway),
				strerror(-r));
		if (hop->asked == SILENT)
			log_warning("%s: the gateway %s does not answer ARP; its clients stay on "
				    "the tunnel",
				interface_name(hop->ifindex, name), IP4_FORMAT(hop->gateway));
	} else if (hop->asked == 0 && asked >= SILENT) {
		log_notice("%s: the gateway %s answers again", interface_name(hop->ifindex, name),
			IP4_FORMAT(hop->gateway));
	}
}

uint64_t upkeep_run(struct upkeep *upkeep, uint64_t now)
{
	for (size_t i = 0; i < upkeep->hops.n; i++)
		look_after(upkeep, &upkeep->hops.list[i], now);
	return next_hops_wait(&upkeep->hops, now);
}
