package app

import (
	"fmt"
	"regexp"
	"slices"

	"ichwatch/alerts"
	"ichwatch/configs"
	"ichwatch/daemon/spool"
)

// newRouter says where each instance goes by the routes of a configuration.
func newRouter(cfg *configs.Config) (func(spool.Traits) []spool.Way, error) {
	type destination struct {
		name   string
		routes []route
	}
	var all []destination
	for _, d := range cfg.Destinations {
		to := destination{name: d.Name}
		for _, r := range d.Routes {
			compiled, err := newRoute(r)
			if err != nil {
				return nil, fmt.Errorf("destination %s: routes: %w", d.Name, err)
			}
			to.routes = append(to.routes, compiled)
		}
		all = append(all, to)
	}
	return func(t spool.Traits) (ways []spool.Way) {
		for _, to := range all {
			if outcomes, ok := routed(to.routes, t); ok {
				ways = append(ways, spool.Way{Destination: to.name, Outcomes: outcomes})
			}
		}
		return ways
	}, nil
}

// routed says whether an instance meets any of the routes, and at which outcomes of
// its study: nil at any, and at once.
func routed(routes []route, t spool.Traits) (outcomes []alerts.Outcome, ok bool) {
	if len(routes) == 0 {
		return nil, true
	}
	for _, r := range routes {
		if !r.meets(t) {
			continue
		}
		if len(r.outcomes) == 0 {
			return nil, true
		}
		ok = true
		outcomes = append(outcomes, r.outcomes...)
	}
	slices.Sort(outcomes)
	return slices.Compact(outcomes), ok
}

// route is an entry of destinations[].routes.
type route struct {
	calling, called, modality, station, description, class patterns
	outcomes                                               []alerts.Outcome
}

func newRoute(r configs.Route) (out route, err error) {
	for _, list := range []struct {
		to    *patterns
		texts []string
	}{
		{&out.calling, r.CallingAETitles},
		{&out.called, r.CalledAETitles},
		{&out.modality, r.Modalities},
		{&out.station, r.StationNames},
		{&out.description, r.StudyDescriptions},
		{&out.class, r.SOPClasses},
	} {
		for _, text := range list.texts {
			p, err := configs.Pattern(text)
			if err != nil {
				return route{}, err
			}
			*list.to = append(*list.to, p)
		}
	}
	for _, o := range r.Outcomes {
		out.outcomes = append(out.outcomes, alerts.Outcome(o))
	}
	return out, nil
}

func (r route) meets(t spool.Traits) bool {
	return r.calling.meet(string(t.CallingAETitle)) && r.called.meet(string(t.CalledAETitle)) &&
		r.modality.meet(t.Modality) && r.station.meet(t.StationName) && r.description.meet(t.StudyDescription) &&
		r.class.meet(string(t.SOPClassUID), t.SOPClassUID.Name())
}

// patterns are those of one list; none asks nothing.
type patterns []*regexp.Regexp

// meet says whether one of the values fits one of the patterns.
func (ps patterns) meet(values ...string) bool {
	return len(ps) == 0 || slices.ContainsFunc(ps, func(p *regexp.Regexp) bool { return slices.ContainsFunc(values, p.MatchString) })
}
