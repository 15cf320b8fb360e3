package console

import (
	"net/http"

	"ichwatch/daemon/console/users"
)

// route is one way into the page.
type route struct {
	pattern string // of http.ServeMux
	open    bool   // for everybody: no session is asked for
	needs   users.Permission
	// byItself: the page asks by itself, which keeps no session alive.
	byItself bool
	serve    func(*Server, http.ResponseWriter, *http.Request)
}

// routes is every way into the page.
var routes = []route{
	{pattern: "GET /login", open: true, serve: (*Server).loginPage},
	{pattern: "POST /login", open: true, serve: (*Server).login},
	{pattern: "GET /assets/{version}/{file}", open: true, serve: (*Server).asset},
	{pattern: "POST /logout", needs: users.List, serve: (*Server).logout},
	{pattern: "GET /awake", needs: users.List, serve: (*Server).awake},

	{pattern: "GET /{$}", needs: users.List, serve: (*Server).listPage},
	{pattern: "GET /events", needs: users.List, byItself: true, serve: (*Server).events},

	{pattern: "GET /study/{study}", needs: users.Study, serve: (*Server).studyPage},
	{pattern: "GET /study/{study}/panel", needs: users.Study, byItself: true, serve: (*Server).studyPanel},
	{pattern: "GET /study/{study}/stack", needs: users.Study, byItself: true, serve: (*Server).studyStack},
	{pattern: "GET /study/{study}/slice/{slice}/hu", needs: users.Study, serve: (*Server).sliceHU},
	{pattern: "GET /study/{study}/slice/{slice}/map", needs: users.Study, serve: (*Server).sliceMap},
	{pattern: "GET /study/{study}/slice/{slice}/{window}", needs: users.Study, serve: (*Server).slicePNG},
	{pattern: "GET /alert/{alert}", needs: users.Study, serve: (*Server).alertLink},
	{pattern: "POST /alert/{alert}/acknowledge", needs: users.Answer, serve: (*Server).acknowledge},
	{pattern: "POST /alert/{alert}/verdict", needs: users.Answer, serve: (*Server).verdict},

	{pattern: "GET /device", needs: users.Machine, serve: (*Server).devicePage},
	{pattern: "GET /device/now", needs: users.Machine, byItself: true, serve: (*Server).deviceNow},
	{pattern: "POST /device/check", needs: users.Machine, serve: (*Server).deviceCheck},
	{pattern: "GET /trail", needs: users.Trail, serve: (*Server).trailPage},
}

// Handler is the page as a handler. Whatever no route knows is answered like a
// route that asks for a session.
func (s *Server) Handler() http.Handler {
	s.init()
	mux := http.NewServeMux()
	for _, r := range routes {
		mux.Handle(r.pattern, s.guard(r))
	}
	mux.Handle("/", s.guard(route{needs: users.List, serve: func(s *Server, w http.ResponseWriter, r *http.Request) {
		s.fail(w, r, http.StatusNotFound, "There is no such page.")
	}}))
	return s.outermost(http.NewCrossOriginProtection().Handler(mux))
}
