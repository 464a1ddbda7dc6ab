"""Exception syndromes: classes, status codes, ISS layouts; built, decoded, explained.

To decode: ``classes`` (EC), ``fsc`` (DFSC, IFSC, FST), ``iss`` (the layouts), ``layouts``
(which layout an ESR value uses). To encode: ``build``. To explain: ``meanings`` (of
values), ``report`` (what an exception writes), ``checks`` (what is wrong), ``sentences``,
and ``explain``, which puts them together.
"""
