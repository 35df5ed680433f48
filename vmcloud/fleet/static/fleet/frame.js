// What the theme's markup expects of Alpine, registered by name: the build without eval looks nothing up in the window.
"use strict";
// Before anything is painted: the colours that the person chose (kept by the theme, as JSON), else the system's.
{
  const chosen = (localStorage.getItem("adminTheme") || "").replaceAll('"', "");
  const dark = chosen === "dark" || (chosen !== "light" && matchMedia("(prefers-color-scheme: dark)").matches);
  document.documentElement.classList.toggle("dark", dark);
}
document.addEventListener("alpine:init", () => {
  for (const name of ["theme", "searchForm"]) Alpine.data(name, window[name]);
  Alpine.data("frame", () => ({
    activeTab: "general",
    sidebarMobileOpen: false,
    sidebarDesktopOpen: localStorage.getItem("sidebarDesktopOpen") !== "0",
    toggleSidebar() {
      this.sidebarDesktopOpen = !this.sidebarDesktopOpen;
      localStorage.setItem("sidebarDesktopOpen", this.sidebarDesktopOpen ? "1" : "0");
    },
    // The theme's form asks for the address it was opened at.
    window: { location: { pathname: location.pathname, search: location.search } },
  }));
});
