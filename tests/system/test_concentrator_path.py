"""A path asked for at the concentrator's shell, over the line model."""

from virtual_site import Person, Site


def test_the_nodes_on_the_way_to_a_meter_three_hops_away_and_back(tmp_path, monkeypatch):
    site = Site(tmp_path, monkeypatch, settle=600.0)
    site.start_concentrator()
    site.run(30)
    person = Person(site)
    hops = {
        line.words[0]: int(line.fields["hops"]) for line in person.ask("PLC TOPOLOGY") if line.words != ("OK",)
    }
    far = max(hops, key=lambda name: hops[name])
    assert hops[far] == 3
    *lines, end = person.ask(f"PLC PATH {far}", wait=20)
    there = [line.fields["node"] for line in lines if line.words == ("there",)]
    back = [line.fields["node"] for line in lines if line.words == ("back",)]
    assert (len(there), there[-1], back[-1]) == (3, far, "coordinator")
    assert set(there[:-1]) <= hops.keys()
    assert end.fields == {"there": "3", "back": str(len(back)), "reached": "1"}
    assert all(4 <= int(line.fields["cost"]) < 40 for line in lines)
