"""Campaigns of fault injection: what is planned (:mod:`lab.campaign.plan`), and what is run."""
