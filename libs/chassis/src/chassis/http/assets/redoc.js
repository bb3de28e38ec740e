const scheme = window.matchMedia("(prefers-color-scheme: dark)");
const font = "system-ui, sans-serif";
const typography = {
  fontFamily: font,
  headings: { fontFamily: font },
  code: { fontFamily: "ui-monospace, monospace" },
};
const dark = {
  colors: {
    primary: { main: "#8ab4f8" },
    success: { main: "#5bb974" },
    warning: { main: "#fbbc04" },
    error: { main: "#f28b82" },
    gray: { 50: "#24282c", 100: "#2c3136" },
    text: { primary: "#e3e6e8", secondary: "#aeb5bb" },
    border: { dark: "rgba(255, 255, 255, 0.15)", light: "#3a4046" },
  },
  schema: { nestedBackground: "#24282c", linesColor: "#5f6b76", typeNameColor: "#aeb5bb", typeTitleColor: "#aeb5bb" },
  sidebar: { backgroundColor: "#171a1d", textColor: "#e3e6e8" },
  rightPanel: {
    backgroundColor: "#14171a",
    servers: { overlay: { backgroundColor: "#24282c", textColor: "#e3e6e8" }, url: { backgroundColor: "#171a1d" } },
  },
  codeBlock: { backgroundColor: "#0e1113" },
  fab: { backgroundColor: "#24282c", color: "#8ab4f8" },
};
const darkCode = { ...typography.code, color: "#f28b82", backgroundColor: "rgba(255, 255, 255, 0.08)" };

// ReDoc computes its colors once, so another scheme needs another start.
scheme.addEventListener("change", () => location.reload());
Redoc.init(
  "openapi.json",
  { theme: scheme.matches ? { ...dark, typography: { ...typography, code: darkCode } } : { typography } },
  document.getElementById("redoc"),
);
