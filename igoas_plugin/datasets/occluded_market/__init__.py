"""OccludedMarket1501: Market-1501 with occluded queries, with the same pixels on every machine."""
