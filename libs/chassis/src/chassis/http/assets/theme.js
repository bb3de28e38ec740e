// Follows the color scheme of the system. Loaded before the page is shown, so that a dark page never flashes white.
(() => {
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const apply = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
  dark.addEventListener("change", apply);
  apply();
})();
